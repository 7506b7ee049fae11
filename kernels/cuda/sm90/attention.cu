// block_sparse_attention for sm_90a, one persistent thread block per multiprocessor (formula: kernels/params.h).
//
// Warp 0 is the producer (produce.h), warps 1 to 3 are planners (plan_tiles.h), warpgroups 1 and 2 compute 64 query
// rows of a tile each (consume.h). They meet in shared_storage.h.
#include "kernels/cuda/sm90/consume.h"
#include "kernels/cuda/sm90/plan_tiles.h"
#include "kernels/cuda/sm90/produce.h"
#include "kernels/cuda/sm90/thread_block.h"

namespace jenga::cuda::sm90 {
namespace {

// 56 * 128 + 224 * 256 registers fill the register file; the kernel starts with 168 for every thread.
constexpr int kProducerRegisters = 56;
constexpr int kConsumerRegisters = 224;

template <class T, int kHeadDim>
__device__ __forceinline__ void attend(const AttentionArguments& args) {
  extern __shared__ uint8_t dynamic_shared[];
  auto& shared = *reinterpret_cast<SharedStorage<kHeadDim>*>(dynamic_shared + panel_padding(dynamic_shared));
  const int group = warp_uniform(threadIdx.x / 128);
  if (threadIdx.x == 0) {
    tma_prefetch_map(&args.k_map);
    tma_prefetch_map(&args.v_map);
    shared.init_barriers();
  }
  __syncthreads();
  if (group == 0) {
    give_registers_back<kProducerRegisters>();
    if (threadIdx.x < 32) {
      produce<kHeadDim>(args, shared, threadIdx.x);
    } else {
      plan_tiles<T, kHeadDim>(args, shared, threadIdx.x - 32);
    }
  } else {
    take_registers<kConsumerRegisters>();
    consume<T, kHeadDim>(args, shared, group - 1, threadIdx.x % 128);
  }
}

}  // namespace
}  // namespace jenga::cuda::sm90

namespace jenga::cuda {

#define JENGA_DEFINE_ATTENTION(dim)                                                                            \
  JENGA_DEFINE_KERNEL_PAIR(jenga_sm90_attention_##dim, sm90::AttentionArguments, (sm90::kAttentionThreads, 1), \
                           sm90::attend, dim)
JENGA_DEFINE_ATTENTION(64)
JENGA_DEFINE_ATTENTION(128)

}  // namespace jenga::cuda
