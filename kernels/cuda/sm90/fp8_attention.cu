// block_sparse_attention with int8 keys and e4m3 values for sm_90a, one persistent thread block per multiprocessor
// (formula: kernels/params.h).
//
// Warp 0 is the producer (fp8_produce.h), warps 1 to 3 are planners (fp8_plan.h), warpgroups 1 and 2 compute 64 query
// rows of a tile each (fp8_consume.h). They meet in fp8_storage.h.
#include "kernels/cuda/sm90/fp8_consume.h"
#include "kernels/cuda/sm90/fp8_plan.h"
#include "kernels/cuda/sm90/fp8_produce.h"
#include "kernels/cuda/sm90/thread_block.h"

namespace jenga::cuda::sm90 {
namespace {

// The kernel starts with 168 registers for every thread; more than it starts with is never given out.
constexpr int kProducerRegisters = 72;
constexpr int kConsumerRegisters = 216;
static_assert(128 * kProducerRegisters + 256 * kConsumerRegisters <= 168 * kAttentionThreads);

template <class T>
__device__ __forceinline__ void attend_fp8(const Fp8Arguments& args) {
  extern __shared__ uint8_t dynamic_shared[];
  auto& shared = *reinterpret_cast<Fp8Storage*>(dynamic_shared + panel_padding(dynamic_shared));
  const int group = warp_uniform(threadIdx.x / 128);
  if (threadIdx.x == 0) {
    tma_prefetch_map(&args.k_map);
    tma_prefetch_map(&args.v_map);
    shared.init_barriers();
  }
  shared.write_ones();
  __syncthreads();
  if (group == 0) {
    give_registers_back<kProducerRegisters>();
    if (threadIdx.x < 32) {
      produce_fp8(args, shared, threadIdx.x);
    } else {
      plan_fp8_tiles<T>(args, shared, threadIdx.x - 32);
    }
  } else {
    take_registers<kConsumerRegisters>();
    consume_fp8<T>(args, shared, group - 1, threadIdx.x % 128);
  }
}

}  // namespace
}  // namespace jenga::cuda::sm90

namespace jenga::cuda {

JENGA_DEFINE_KERNEL_PAIR(jenga_sm90_fp8_attention_128, sm90::Fp8Arguments, (sm90::kAttentionThreads, 1),
                         sm90::attend_fp8)

}  // namespace jenga::cuda
