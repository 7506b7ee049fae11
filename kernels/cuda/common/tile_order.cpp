#include "kernels/cuda/common/tile_order.h"

#include "kernels/params.h"

namespace jenga::cuda {

CUresult order_tiles(const int32_t* kv_block_count, int64_t batch_heads, int64_t num_q_blocks, int32_t* tile_order,
                     CUstream stream) {
  const int64_t chunks = ceil_div(num_q_blocks, kOrderThreads);
  const OrderArguments args{kv_block_count, static_cast<int32_t>(num_q_blocks), static_cast<int32_t>(chunks),
                            tile_order};
  return jenga_order_tiles.launch({batch_heads * chunks, kOrderThreads}, stream, args);
}

}  // namespace jenga::cuda
