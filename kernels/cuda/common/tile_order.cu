// The rank of a query block is the number of blocks that go before it. Quadratic, but a head has some hundred of them.
#include "kernels/cuda/common/tile_order.h"

namespace jenga::cuda {
namespace {

constexpr int kThreads = kOrderThreads;

__device__ __forceinline__ void order_tiles(const OrderArguments& args) {
  __shared__ int32_t counts[kThreads];
  const int num_q_blocks = args.num_q_blocks, chunks = args.chunks;
  const int64_t batch_head = blockIdx.x / chunks;
  const int mine = (blockIdx.x % chunks) * kThreads + threadIdx.x;
  const int32_t* count = args.kv_block_count + batch_head * num_q_blocks;
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
  if (mine < num_q_blocks) args.tile_order[batch_head * num_q_blocks + rank] = mine;
}

}  // namespace

JENGA_DEFINE_KERNEL(jenga_order_tiles, OrderArguments, (kOrderThreads), order_tiles)

}  // namespace jenga::cuda
