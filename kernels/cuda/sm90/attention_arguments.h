// The sm_90a attention kernels, what they get by value, and the sizes that their launch needs.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/common/walk_arguments.h"
#include "kernels/cuda/driver/kernel.h"
#include "kernels/cuda/sm90/panels.h"

namespace jenga::cuda {
namespace sm90 {

inline constexpr int kTileRows = 128;
inline constexpr int kUnitKeys = 128;
inline constexpr int kBoxRows = 64;  // key rows per copy: two listed 64-blocks fill a unit
static_assert(kTileRows == kQueryBlockRows);
inline constexpr int kAttentionThreads = 384;
inline constexpr int kMaxTailCells = 8192;  // bounds the bitset of kept key blocks and the mask of tail units

// Of shared memory: SharedStorage, and what its alignment may cost.
template <int kHeadDim>
inline constexpr int64_t kStorageBytes = kHeadDim == 64 ? 151896 : 201000;
template <int kHeadDim>
inline constexpr int64_t kSharedBytes = kStorageBytes<kHeadDim> + kPanelAlignment;

struct AttentionArguments {
  TileWalk walk;
  CUtensorMap k_map, v_map, k_tail_map, v_tail_map;  // [batch, head, row, channel], box of 64 rows x 64 channels
  int32_t* next_ticket;                              // work counter, zero at launch
  int32_t num_tickets;                               // tiles of the whole launch
};

}  // namespace sm90

JENGA_KERNEL_PAIR(sm90_attention, jenga_sm90_attention_64, sm90::AttentionArguments);
JENGA_KERNEL_PAIR(sm90_attention, jenga_sm90_attention_128, sm90::AttentionArguments);

}  // namespace jenga::cuda
