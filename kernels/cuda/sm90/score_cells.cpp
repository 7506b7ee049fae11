#include "kernels/cuda/sm90/score_cells.h"

#include "kernels/cuda/sm90/score_kernels.h"

namespace jenga::cuda::sm90 {
namespace {

constexpr ScoreKernels k64{jenga_sm90_score_shifts_64, jenga_sm90_score_masses_64, score::kThreads, score::kRows,
                           score::shared_bytes(64),    score::kStageKeys};
constexpr ScoreKernels k128{jenga_sm90_score_shifts_128,
                            jenga_sm90_score_masses_128,
                            score::kThreads,
                            score::kRows,
                            score::shared_bytes(128),
                            score::kStageKeys};

}  // namespace

const ScoreKernels& score_kernels(int64_t head_dim) { return head_dim == 64 ? k64 : k128; }

}  // namespace jenga::cuda::sm90
