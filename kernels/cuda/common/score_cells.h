// The masses of select_blocks (formula: kernels/params.h), on the tensor cores.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/params.h"

namespace jenga::cuda {

// Device memory of one call.
struct ScoreWorkspace {
  void* coarse_means;  // [B, H, num_coarse, D] in dtype
  float* shifts;       // [B, H, nqc]
  float* masses;       // [B, H, nq, nkv], up to a factor for each row
};

// coarse_means from k_means.
cudaError_t average_cells(const SelectBlocksParams& params, void* coarse_means, cudaStream_t stream);

// masses from the means. Returns cudaErrorNotSupported for fp32 and for head dims that are no multiple of 8 up to 256.
cudaError_t score_cells(const SelectBlocksParams& params, const ScoreWorkspace& workspace, cudaStream_t stream);

}  // namespace jenga::cuda
