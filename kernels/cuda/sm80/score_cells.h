// Scoring of select_blocks for this architecture; kernels/cuda/dispatch_scores.cpp chooses.
#pragma once

#include "kernels/cuda/common/score_launch.h"

namespace jenga::cuda::sm80 {

inline bool runs_scores(int capability, int64_t head_dim) {
  return capability >= 80 && head_dim % 8 == 0 && head_dim <= 256;
}

// Of the smallest head dim that has room for this one.
const ScoreKernels& score_kernels(int64_t head_dim);

}  // namespace jenga::cuda::sm80
