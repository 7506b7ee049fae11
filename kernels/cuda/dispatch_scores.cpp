// The choice among the scoring kernels of select_blocks by device and head dim.
#include "kernels/cuda/capability.h"
#include "kernels/cuda/common/score_cells.h"
#include "kernels/cuda/sm80/score_cells.h"
#include "kernels/cuda/sm90/score_cells.h"

namespace jenga::cuda {

CUresult score_cells(const SelectBlocksParams& params, const ScoreWorkspace& workspace, CUstream stream) {
  if (params.head_dim % 8 != 0 || params.head_dim > kMaxHeadDim) return CUDA_ERROR_NOT_SUPPORTED;
  int capability = 0;
  if (CUresult error = compute_capability(&capability)) return error;
  if (sm90::runs_scores(capability, params.head_dim))
    return launch_score_passes(sm90::score_kernels(params.head_dim), params, workspace, stream);
  if (sm80::runs_scores(capability, params.head_dim))
    return launch_score_passes(sm80::score_kernels(params.head_dim), params, workspace, stream);
  return CUDA_ERROR_NOT_SUPPORTED;
}

}  // namespace jenga::cuda
