// Shared memory of the kernels with int8 keys and e4m3 values. Who the threads are: shared_storage.h.
//
// A ring of units: codes and scales of 128 keys, their bias, their values. Queries of the next tile are turned into
// codes while this one is worked on.
#pragma once

#include "kernels/cuda/sm90/copy_async.h"
#include "kernels/cuda/sm90/fp8_arguments.h"
#include "kernels/cuda/sm90/shared_storage.h"

namespace jenga::cuda::sm90 {

inline constexpr int kUnitSlots = 5;
inline constexpr int kCodeRowBytes = kFp8HeadDim;  // one panel row
static_assert(kCodeRowBytes == kPanelRowBytes);
inline constexpr int kValueBlockBytes = kFp8HeadDim * kValueBlockKeys;
inline constexpr int kOnesBytes = 8 * kValueBlockKeys;

// Values of 64 keys, and behind their channels eight that are 1 for every key: their products are the sums of the
// rounded weights, which divide the output in the end, and cost no addition.
struct ValueBlock {
  uint8_t values[kValueBlockBytes];
  uint8_t ones[kOnesBytes];
};

// What the consumers must know of a unit that is not whole.
enum class UnitKind : int32_t {
  kMasked,  // some keys are missing, the others have one bias
  kBiased,  // every key has its own
};

// Added to the sum of a missing key, which is then below that of any other.
inline constexpr int32_t kMissing = -(1 << 28);
static_assert(127 * 127 * kFp8HeadDim < -kMissing / 64);

struct alignas(kPanelAlignment) UnitSlot {
  uint8_t k[kUnitKeys * kCodeRowBytes];
  ValueBlock v[2];
  union {
    float bias[kUnitKeys];       // in units of scaled scores; -inf: missing
    int32_t missing[kUnitKeys];  // kMissing or 0
  };
  uint32_t present[kUnitKeys / 4];  // a byte a key, 0 where it is missing, in the order of weights in registers
  float k_scale[2];                 // of keys 0 .. 63, 64 .. 127
  float shared_bias;                // of a masked unit
  UnitKind kind;
};
static_assert(sizeof(ValueBlock) % 512 == 0 && kUnitKeys * kCodeRowBytes % 512 == 0);

// What a thread of a consumer needs of its queries beside the codes, and of the values of their head.
struct QueryRows {
  float scale[kTileRows];
  float center_product[kTileRows];  // with k_center, for lse
  float value_scale[kFp8HeadDim], value_center[kFp8HeadDim];
};

struct Fp8Storage {
  uint8_t q[kPlanSlots][kTileRows * kCodeRowBytes];
  UnitSlot unit[kUnitSlots];
  QueryRows rows[kPlanSlots];
  alignas(16) uint16_t key_center[2][kFp8HeadDim];  // of the queries that are turned into codes (row_products.h)
  TilePlan plan[kPlanSlots];
  Barrier plan_wanted, plan_full[kPlanSlots], plan_empty[kPlanSlots];
  Barrier q_full[kPlanSlots], q_empty[kPlanSlots];
  Barrier k_full[kUnitSlots], v_full[kUnitSlots], unit_empty[kUnitSlots];

  // One thread, before anybody uses the barriers.
  __device__ __forceinline__ void init_barriers() {
    barrier_init(&plan_wanted, 32);
    for (int slot = 0; slot < kPlanSlots; ++slot) {
      barrier_init(plan_full + slot, kPlannerThreads);
      barrier_init(plan_empty + slot, kConsumerThreads);
      barrier_init(q_full + slot, kPlannerThreads);
      barrier_init(q_empty + slot, kConsumerWarps);
    }
    for (int slot = 0; slot < kUnitSlots; ++slot) {
      barrier_init(k_full + slot, 1 + 2 * 32);  // codes; scales and bias of every lane
      barrier_init(v_full + slot, 1);
      barrier_init(unit_empty + slot, kConsumerWarps);
    }
    barrier_init_fence();
  }

  // All threads, once: no copy goes there.
  __device__ __forceinline__ void write_ones() {
    constexpr int kWords = kOnesBytes / 4;
    for (int i = threadIdx.x; i < kUnitSlots * 2 * kWords; i += kAttentionThreads) {
      ValueBlock& block = unit[i / kWords / 2].v[i / kWords % 2];
      reinterpret_cast<uint32_t*>(block.ones)[i % kWords] = 0x38383838u;  // four times 1 in e4m3
    }
    fence_async_proxy();
  }
};

static_assert(sizeof(Fp8Storage) == kFp8StorageBytes);

}  // namespace jenga::cuda::sm90
