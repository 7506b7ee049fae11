// Pairs are counted in integers, so that the order of the sum does not matter (formula: kernels/params.h).
#include "kernels/cuda/common/kept_share.h"
#include "kernels/cuda/common/warp_sum.h"

namespace jenga::cuda {
namespace {

constexpr int kThreads = kKeptShareThreads;
constexpr int kInFlight = 4;  // lists that a thread loads of at a time

// What the lists of one thread keep: every kThreads-th.
__device__ __forceinline__ uint64_t count_pairs(const KeptShareArguments& args) {
  const uint32_t lists = args.lists;
  const int num_q_blocks = args.num_q_blocks, step = kThreads % num_q_blocks;
  int q_block = threadIdx.x % num_q_blocks;
  uint64_t pairs = 0;
  for (uint32_t first = threadIdx.x; first < lists; first += kInFlight * kThreads) {
    int32_t counts[kInFlight], last[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const uint32_t list = first + i * kThreads;
      counts[i] = list < lists ? args.kv_block_count[list] : 0;
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const uint32_t list = first + i * kThreads;
      const int64_t end = int64_t{list} * args.max_kv + counts[i];
      last[i] = args.lacking_keys && counts[i] ? args.kv_block_index[end - 1] : -1;
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const uint32_t keys =
          counts[i] * args.kv_block_size - (last[i] == args.num_kv_blocks - 1 ? args.lacking_keys : 0);
      const uint32_t rows = kQueryBlockRows - (q_block == num_q_blocks - 1 ? args.lacking_rows : 0);
      pairs += uint64_t{keys} * rows;
      q_block += step;
      if (q_block >= num_q_blocks) q_block -= num_q_blocks;
    }
  }
  return pairs;
}

__device__ __forceinline__ void kept_share(const KeptShareArguments& args) {
  __shared__ uint64_t of_warps[kThreads / 32];
  uint64_t pairs = warp_sum(count_pairs(args));
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = pairs;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  pairs = warp_sum(of_warps[threadIdx.x]);
  if (threadIdx.x == 0) *args.kept_share = static_cast<float>(static_cast<double>(pairs) / args.all_pairs);
}

}  // namespace

JENGA_DEFINE_KERNEL(jenga_kept_share, KeptShareArguments, (kKeptShareThreads), kept_share)

}  // namespace jenga::cuda
