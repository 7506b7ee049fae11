#include "kernels/cuda/common/pack_residual.h"

#include "kernels/cuda/common/layout.h"
#include "kernels/cuda/launch.h"

namespace jenga::cuda {
namespace {

CUresult launch(const PackResidualParams& params, CUstream stream) {
  const int lanes = lanes_per_row(params.head_dim);
  const int64_t grid = ceil_div(params.batch * params.tokens * params.heads * lanes, kPackThreads);
  const LaunchShape shape{grid, kPackThreads};
  switch (lanes) {
    case 2:
      return jenga_pack_residual_2.launch(params.dense.dtype, shape, stream, params);
    case 4:
      return jenga_pack_residual_4.launch(params.dense.dtype, shape, stream, params);
    case 8:
      return jenga_pack_residual_8.launch(params.dense.dtype, shape, stream, params);
    case 16:
      return jenga_pack_residual_16.launch(params.dense.dtype, shape, stream, params);
    case 32:
      return jenga_pack_residual_32.launch(params.dense.dtype, shape, stream, params);
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

}  // namespace

CUresult pack_residual(const PackResidualParams& params, CUstream stream) {
  if (params.head_dim % kVectorElements != 0 || params.head_dim > kMaxHeadDim) return CUDA_ERROR_NOT_SUPPORTED;
  if (params.bits != 8 && params.bits != 4) return CUDA_ERROR_NOT_SUPPORTED;
  if (!has_aligned_rows(params.dense, params.batch, params.heads) ||
      !has_aligned_rows(params.carved, params.batch, params.heads))
    return CUDA_ERROR_MISALIGNED_ADDRESS;
  return launch(params, stream);
}

}  // namespace jenga::cuda
