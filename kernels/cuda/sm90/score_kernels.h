// The scoring kernels of select_blocks for sm_90a, and the sizes of their tiles.
#pragma once

#include "kernels/cuda/common/score_arguments.h"
#include "kernels/cuda/driver/kernel.h"
#include "kernels/cuda/sm90/panels.h"

namespace jenga::cuda {
namespace sm90::score {

inline constexpr int kThreads = 256;
inline constexpr int kTile = 128;  // query cells of a thread block, key cells of a stage
inline constexpr int kStages = 2;
inline constexpr int kTilePanelBytes = kTile * kPanelRowBytes;

constexpr int tile_bytes(int head_dim) { return head_dim / kPanelChannels * kTilePanelBytes; }
constexpr int shared_bytes(int head_dim) { return (1 + kStages) * tile_bytes(head_dim) + 1024; }

}  // namespace sm90::score

#define JENGA_SM90_SCORES(dim)                                                        \
  JENGA_KERNEL_PAIR(sm90_score_cells, jenga_sm90_score_shifts_##dim, ScoreArguments); \
  JENGA_KERNEL_PAIR(sm90_score_cells, jenga_sm90_score_masses_##dim, ScoreArguments)
JENGA_SM90_SCORES(64);
JENGA_SM90_SCORES(128);
#undef JENGA_SM90_SCORES

}  // namespace jenga::cuda
