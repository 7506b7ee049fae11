#include "kernels/cuda/common/kept_share.h"

#include "kernels/cuda/launch.h"

namespace jenga::cuda {

KeptShareArguments kept_share_arguments(const KeptShareParams& params) {
  return {
      .kv_block_index = params.kv_block_index,
      .kv_block_count = params.kv_block_count,
      .kept_share = params.kept_share,
      .all_pairs = params.all_pairs(),
      .lists = static_cast<int32_t>(params.num_lists()),
      .max_kv = static_cast<int32_t>(params.max_kv),
      .num_q_blocks = static_cast<int32_t>(params.num_q_blocks()),
      .num_kv_blocks = static_cast<int32_t>(params.num_kv_blocks()),
      .kv_block_size = static_cast<int32_t>(params.kv_block_size),
      .lacking_rows = static_cast<int32_t>(params.lacking_rows()),
      .lacking_keys = static_cast<int32_t>(params.lacking_keys()),
  };
}

CUresult kept_share(const KeptShareParams& params, CUstream stream) {
  if (params.num_lists() > INT32_MAX) return CUDA_ERROR_INVALID_VALUE;
  const LaunchShape shape{params.num_lists() > 0 ? 1 : 0, kKeptShareThreads};
  return jenga_kept_share.launch(shape, stream, kept_share_arguments(params));
}

}  // namespace jenga::cuda
