// The rank of a query block is the number of blocks that go before it. Quadratic, but a head has some hundred of them.
#include "kernels/cuda/common/tile_order.h"
#include "kernels/params.h"

namespace jenga::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads)
    order_tiles_kernel(const int32_t* kv_block_count, int num_q_blocks, int chunks, int32_t* tile_order) {
  __shared__ int32_t counts[kThreads];
  const int64_t batch_head = blockIdx.x / chunks;
  const int mine = (blockIdx.x % chunks) * kThreads + threadIdx.x;
  const int32_t* count = kv_block_count + batch_head * num_q_blocks;
  const int32_t my_count = mine < num_q_blocks ? count[mine] : 0;
  int rank = 0;
  for (int first = 0; first < num_q_blocks; first += kThreads) {
    const int other = first + threadIdx.x;
    __syncthreads();
    counts[threadIdx.x] = other < num_q_blocks ? count[other] : -1;
    __syncthreads();
#pragma unroll 16
    for (int i = 0; i < kThreads; ++i) rank += counts[i] > my_count || (counts[i] == my_count && first + i < mine);
  }
  if (mine < num_q_blocks) tile_order[batch_head * num_q_blocks + rank] = mine;
}

}  // namespace

cudaError_t order_tiles(const int32_t* kv_block_count, int64_t batch_heads, int64_t num_q_blocks, int32_t* tile_order,
                        cudaStream_t stream) {
  const int64_t chunks = ceil_div(num_q_blocks, kThreads);
  const int64_t grid = batch_heads * chunks;
  if (grid == 0) return cudaSuccess;
  if (grid > INT32_MAX) return cudaErrorInvalidConfiguration;
  order_tiles_kernel<<<static_cast<unsigned>(grid), kThreads, 0, stream>>>(
      kv_block_count, static_cast<int>(num_q_blocks), static_cast<int>(chunks), tile_order);
  return cudaGetLastError();
}

}  // namespace jenga::cuda
