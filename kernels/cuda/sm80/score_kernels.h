// The scoring kernels of select_blocks for compute capability 8.0 and newer, and the sizes of their tiles.
#pragma once

#include "kernels/cuda/common/score_arguments.h"
#include "kernels/cuda/driver/kernel.h"
#include "kernels/cuda/sm80/shape.h"

namespace jenga::cuda {
namespace sm80 {

inline constexpr int kThreadKeys = kUnitKeys / 4;  // key cells of a tile that one thread holds

template <int kHeadDim>
struct ScoreTile : TileShape<kHeadDim> {
  using Base = TileShape<kHeadDim>;
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr int kSlots = 2 * Base::kRowGroups;  // query cells of a thread
  static constexpr int kStages = kHeadDim <= 128 ? 3 : 2;
  static constexpr int kSharedBytes = kStages * Base::kUnitBytes;
  static constexpr int kThreadBlocks = kHeadDim <= 128 ? 2 : 1;  // of a multiprocessor
};

}  // namespace sm80

#define JENGA_SM80_SCORES(dim)                                                        \
  JENGA_KERNEL_PAIR(sm80_score_cells, jenga_sm80_score_shifts_##dim, ScoreArguments); \
  JENGA_KERNEL_PAIR(sm80_score_cells, jenga_sm80_score_masses_##dim, ScoreArguments)
JENGA_SM80_SCORES(32);
JENGA_SM80_SCORES(64);
JENGA_SM80_SCORES(96);
JENGA_SM80_SCORES(128);
JENGA_SM80_SCORES(192);
JENGA_SM80_SCORES(256);
#undef JENGA_SM80_SCORES

}  // namespace jenga::cuda
