#include "kernels/cuda/common/average_cells.h"

#include "kernels/cuda/common/layout.h"
#include "kernels/cuda/common/score_cells.h"

namespace jenga::cuda {

CUresult average_cells(const SelectBlocksParams& params, void* coarse_means, CUstream stream) {
  if (params.head_dim % kVectorElements != 0) return CUDA_ERROR_NOT_SUPPORTED;
  const int64_t vectors = params.batch * params.heads * params.num_coarse() * (params.head_dim / kVectorElements);
  const AverageArguments args{params, coarse_means, vectors};
  return jenga_average_cells.launch(params.dtype, {ceil_div(vectors, kAverageThreads), kAverageThreads}, stream, args);
}

}  // namespace jenga::cuda
