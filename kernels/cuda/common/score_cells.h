// The masses of select_blocks (formula: kernels/params.h), on the tensor cores.
#pragma once

#include <cuda.h>

#include "kernels/params.h"

namespace jenga::cuda {

// Floats of a row of masses, so that each starts on 16 bytes; those past the last key block mean nothing.
constexpr int64_t mass_stride(const SelectBlocksParams& params) { return round_up(params.num_kv_blocks(), 4); }

// Device memory of one call.
struct ScoreWorkspace {
  void* coarse_means;  // [B, H, num_coarse, D] in dtype
  float* shifts;       // [B, H, nqc]
  float* masses;       // [B, H, nq, mass_stride], up to a factor for each row
};

// coarse_means from k_means.
CUresult average_cells(const SelectBlocksParams& params, void* coarse_means, CUstream stream);

// masses from the means. Returns CUDA_ERROR_NOT_SUPPORTED for fp32 and for head dims that are no multiple of 8 up to
// 256.
CUresult score_cells(const SelectBlocksParams& params, const ScoreWorkspace& workspace, CUstream stream);

}  // namespace jenga::cuda
