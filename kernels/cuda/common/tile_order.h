// The order in which the query blocks of one head are worked on: longest list first, ties by index.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/driver/kernel.h"

namespace jenga::cuda {

inline constexpr int kOrderThreads = 128;

struct OrderArguments {
  const int32_t* kv_block_count;
  int32_t num_q_blocks, chunks;  // thread blocks of a head
  int32_t* tile_order;
};
JENGA_KERNEL(common_tile_order, jenga_order_tiles, OrderArguments);

// kv_block_count, tile_order: [batch_heads, num_q_blocks].
CUresult order_tiles(const int32_t* kv_block_count, int64_t batch_heads, int64_t num_q_blocks, int32_t* tile_order,
                     CUstream stream);

}  // namespace jenga::cuda
