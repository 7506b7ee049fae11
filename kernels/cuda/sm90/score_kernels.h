// The scoring kernels of select_blocks for sm_90a, and the sizes of their tiles.
#pragma once

#include "kernels/cuda/common/score_arguments.h"
#include "kernels/cuda/driver/kernel.h"
#include "kernels/cuda/sm90/panels.h"

namespace jenga::cuda {
namespace sm90::score {

inline constexpr int kProducers = 128;  // threads
inline constexpr int kGroups = 3;       // warpgroups that multiply
inline constexpr int kThreads = kProducers + kGroups * 128;
inline constexpr int kRows = kGroups * 64;  // query cells of a tile
inline constexpr int kStageKeys = 128;      // key cells of a stage
inline constexpr int kStages = 6;           // as many as fit for head dim 128

constexpr int stage_bytes(int head_dim) { return head_dim / kPanelChannels * kStageKeys * kPanelRowBytes; }
// With both barriers of each stage, and what aligns the stages.
constexpr int shared_bytes(int head_dim) { return kStages * (stage_bytes(head_dim) + 16) + kPanelAlignment; }

}  // namespace sm90::score

#define JENGA_SM90_SCORES(dim)                                                        \
  JENGA_KERNEL_PAIR(sm90_score_cells, jenga_sm90_score_shifts_##dim, ScoreArguments); \
  JENGA_KERNEL_PAIR(sm90_score_cells, jenga_sm90_score_masses_##dim, ScoreArguments)
JENGA_SM90_SCORES(64);
JENGA_SM90_SCORES(128);
#undef JENGA_SM90_SCORES

}  // namespace jenga::cuda
