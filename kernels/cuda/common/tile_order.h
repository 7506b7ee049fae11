// The order in which the query blocks of one head are worked on: longest list first, ties by index.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace jenga::cuda {

// kv_block_count, tile_order: [batch_heads, num_q_blocks].
cudaError_t order_tiles(const int32_t* kv_block_count, int64_t batch_heads, int64_t num_q_blocks, int32_t* tile_order,
                        cudaStream_t stream);

}  // namespace jenga::cuda
