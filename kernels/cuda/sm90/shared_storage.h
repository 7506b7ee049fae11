// Who the threads of a block are, and the shared memory through which they hand data to each other.
//
// Every slot has a full and an empty barrier. Where ordinary loads and stores hand data over, every thread that read or
// wrote arrives; where the copy engine and the products do, one thread arrives for its warp.
#pragma once

#include "kernels/cuda/sm90/mbarrier.h"
#include "kernels/cuda/sm90/ring.h"
#include "kernels/cuda/sm90/tile_plan.h"
#include "kernels/cuda/sm90/warp_uniform.h"
#include "kernels/cuda/sm90/wgmma.h"

namespace jenga::cuda::sm90 {

inline constexpr int kPlanSlots = 2;
inline constexpr int kBiasSlots = 2;
inline constexpr int kConsumerGroups = 2;
inline constexpr int kConsumerThreads = 256;
inline constexpr int kConsumerWarps = 8;
inline constexpr int kGroupRows = 64;
inline constexpr int kPlannerThreads = 96;
inline constexpr int kPanelBytes = kUnitKeys * kPanelRowBytes;  // of 64 channels; tiles have as many rows as units
static_assert(kTileRows == kUnitKeys);

// Named barriers (0 is __syncthreads): the planners' own, then one per consumer warpgroup for taking turns.
inline constexpr int kPlannerBarrier = 1;
inline constexpr int kTurnBarrier = 2;

template <int kHeadDim>
struct SharedStorage {
  static constexpr int kPanels = kHeadDim / kPanelChannels;
  static constexpr int kUnitBytes = kPanels * kPanelBytes;
  // As many as fit. A V slot comes back later than a K slot (after the softmax under which its product ran), so V has
  // the odd one.
  static constexpr int kKeySlots = kHeadDim == 64 ? 4 : 2;
  static constexpr int kValueSlots = kHeadDim == 64 ? 4 : 3;
  uint8_t q[kUnitBytes];
  uint8_t k[kKeySlots][kUnitBytes];
  uint8_t v[kValueSlots][kUnitBytes];
  float bias[kBiasSlots][kUnitKeys];
  TilePlan plan[kPlanSlots];
  Barrier plan_wanted, plan_full[kPlanSlots], plan_empty[kPlanSlots];
  Barrier q_full[kConsumerGroups], q_empty[kConsumerGroups];  // each group's own rows
  Barrier k_full[kKeySlots], k_empty[kKeySlots];
  Barrier v_full[kValueSlots], v_empty[kValueSlots];
  Barrier bias_full[kBiasSlots], bias_empty[kBiasSlots];

  // One thread, before anybody uses the barriers.
  __device__ __forceinline__ void init_barriers() {
    const auto init_ring = [](Barrier* full, uint32_t full_arrivals, Barrier* empty, uint32_t empty_arrivals,
                              int slots) {
      for (int slot = 0; slot < slots; ++slot) {
        barrier_init(full + slot, full_arrivals);
        barrier_init(empty + slot, empty_arrivals);
      }
    };
    barrier_init(&plan_wanted, 32);
    init_ring(plan_full, kPlannerThreads, plan_empty, kConsumerThreads, kPlanSlots);
    init_ring(q_full, kPlannerThreads, q_empty, kConsumerWarps / kConsumerGroups, kConsumerGroups);
    init_ring(k_full, 1, k_empty, kConsumerWarps, kKeySlots);
    init_ring(v_full, 1, v_empty, kConsumerWarps, kValueSlots);
    init_ring(bias_full, 32, bias_empty, kConsumerThreads, kBiasSlots);
    barrier_init_fence();
  }
};

static_assert(sizeof(SharedStorage<64>) == kStorageBytes<64> && sizeof(SharedStorage<128>) == kStorageBytes<128>);

}  // namespace jenga::cuda::sm90
