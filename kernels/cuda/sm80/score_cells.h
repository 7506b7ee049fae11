// Scoring of select_blocks for this architecture; kernels/cuda/dispatch_scores.cu chooses.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/common/score_passes.h"

namespace jenga::cuda::sm80 {

inline bool runs_scores(int major, int64_t head_dim) { return major >= 8 && head_dim % 8 == 0 && head_dim <= 256; }

// Both passes, for heads = B * H: over coarse cells, then over key cells.
template <class T>
cudaError_t launch_scores(const ScoreArguments& coarse, const ScoreArguments& cells, int64_t heads,
                          cudaStream_t stream);

}  // namespace jenga::cuda::sm80
