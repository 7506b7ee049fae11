#include "kernels/cuda/common/pack_residual.h"

#include "kernels/cuda/common/layout.h"
#include "kernels/cuda/launch.h"

namespace jenga::cuda {
namespace {

// By lanes: 2, 4, 8, …
constexpr const KernelPair<PackResidualParams>* kKernels[] = {&jenga_pack_residual_2, &jenga_pack_residual_4,
                                                              &jenga_pack_residual_8, &jenga_pack_residual_16,
                                                              &jenga_pack_residual_32};

}  // namespace

CUresult pack_residual(const PackResidualParams& params, CUstream stream) {
  if (params.head_dim % kVectorElements != 0 || params.head_dim > kMaxHeadDim) return CUDA_ERROR_NOT_SUPPORTED;
  if (params.bits != 8 && params.bits != 4) return CUDA_ERROR_NOT_SUPPORTED;
  if (!has_aligned_rows(params.dense, params.batch, params.heads) ||
      !has_aligned_rows(params.carved, params.batch, params.heads))
    return CUDA_ERROR_MISALIGNED_ADDRESS;
  const int64_t threads = params.batch * params.tokens * params.heads * lanes_per_row(params.head_dim);
  const LaunchShape shape{ceil_div(threads, kPackThreads), kPackThreads};
  return kKernels[index_of_lanes(params.head_dim)]->launch(params.dense.dtype, shape, stream, params);
}

}  // namespace jenga::cuda
