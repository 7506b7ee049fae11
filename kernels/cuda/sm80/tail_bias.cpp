#include "kernels/cuda/sm80/tail_bias.h"

#include "kernels/cuda/common/layout.h"
#include "kernels/cuda/launch.h"

namespace jenga::cuda {

TailBiasArguments tail_bias_arguments(const TailBiasParams& params) {
  return {
      .params = params,
      .head_dim = static_cast<int32_t>(params.head_dim),
      .num_q_cells = static_cast<int32_t>(params.num_q_cells),
      .num_k_cells = static_cast<int32_t>(params.num_k_cells()),
      .num_tail_cells = static_cast<int32_t>(params.num_tail_cells()),
      .num_sampled = static_cast<int32_t>(params.num_sampled()),
      .parts = static_cast<int32_t>(params.tail_block_size / params.k_cell_size),
      .blocks_per_head = static_cast<int32_t>(ceil_div(params.num_k_cells(), 8 * sm80::kOctets)),
      .scale_log2 = params.softmax_scale * 1.44269504088896340736f,
  };
}

CUresult tail_bias(const TailBiasParams& params, CUstream stream) {
  if (params.head_dim % kVectorElements != 0 || params.head_dim > kMaxHeadDim) return CUDA_ERROR_NOT_SUPPORTED;
  if (!is_aligned(params.q_means) || !is_aligned(params.k_means)) return CUDA_ERROR_MISALIGNED_ADDRESS;
  const TailBiasArguments args = tail_bias_arguments(params);
  const LaunchShape shape{params.batch * params.heads * args.blocks_per_head, sm80::kTailBiasThreads,
                          sm80::tail_bias_shared_bytes(params.head_dim)};
  return jenga_tail_bias.launch(params.dtype, shape, stream, args);
}

}  // namespace jenga::cuda
