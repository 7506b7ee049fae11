// The masses of select_blocks on Hopper's tensor cores (passes: common/score_passes.h). One thread block per
// multiprocessor; its parts: score_storage.h.
#include "kernels/cuda/sm90/score_consume.h"
#include "kernels/cuda/sm90/score_produce.h"
#include "kernels/cuda/sm90/thread_block.h"
#include "kernels/cuda/sm90/warp_uniform.h"

namespace jenga::cuda::sm90::score {
namespace {

// 32 * 128 + 160 * 384 registers fill the register file; the kernel starts with 128 for every thread.
constexpr int kProducerRegisters = 32;
constexpr int kConsumerRegisters = 160;

template <class T, int kHeadDim, bool kMasses>
__device__ __forceinline__ void score_cells(const ScoreArguments& args) {
  extern __shared__ uint8_t dynamic_shared[];
  auto& shared = *reinterpret_cast<ScoreStorage<kHeadDim>*>(dynamic_shared + panel_padding(dynamic_shared));
  const int group = warp_uniform(threadIdx.x / 128);
  if (threadIdx.x == 0) shared.init_barriers();
  __syncthreads();
  if (group == 0) {
    give_registers_back<kProducerRegisters>();
    produce<T, kHeadDim>(args, shared);
  } else {
    take_registers<kConsumerRegisters>();
    consume<T, kHeadDim, kMasses>(args, shared, group - 1);
  }
}

}  // namespace
}  // namespace jenga::cuda::sm90::score

namespace jenga::cuda {

#define JENGA_DEFINE_SCORES(name, ...) \
  JENGA_DEFINE_KERNEL_PAIR(name, ScoreArguments, (sm90::score::kThreads, 1), sm90::score::score_cells, __VA_ARGS__)
#define JENGA_DEFINE_SCORES_OF(dim)                              \
  JENGA_DEFINE_SCORES(jenga_sm90_score_shifts_##dim, dim, false) \
  JENGA_DEFINE_SCORES(jenga_sm90_score_masses_##dim, dim, true)
JENGA_DEFINE_SCORES_OF(64)
JENGA_DEFINE_SCORES_OF(128)

}  // namespace jenga::cuda
