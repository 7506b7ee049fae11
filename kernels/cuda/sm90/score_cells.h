// Scoring of select_blocks for this architecture; kernels/cuda/dispatch_scores.cpp chooses.
#pragma once

#include "kernels/cuda/common/score_launch.h"

namespace jenga::cuda::sm90 {

inline bool runs_scores(int capability, int64_t head_dim) {
  return capability == 90 && (head_dim == 64 || head_dim == 128);
}

// Of a head dim that runs_scores.
const ScoreKernels& score_kernels(int64_t head_dim);

}  // namespace jenga::cuda::sm90
