// Launch of the scoring kernels of all architectures: two passes, over coarse cells and over key cells.
#pragma once

#include "kernels/cuda/common/score_arguments.h"
#include "kernels/cuda/common/score_cells.h"
#include "kernels/cuda/driver/kernel.h"

namespace jenga::cuda {

// The kernels of both passes for one head dim, and how they are launched.
struct ScoreKernels {
  const KernelPair<ScoreArguments>&shifts, &masses;
  int threads;
  int tile_rows;  // query cells of a tile
  int64_t shared_bytes;
  // Key cells of a stage, if the second pass is shared evenly by one thread block a multiprocessor, in pairs of a tile
  // and a stage. 0: a thread block takes a tile and all key cells, as in the first pass, whose sums are of all of them.
  int stage_keys = 0;
};

// What the kernels of the first and of the second pass get.
ScoreArguments shift_arguments(const SelectBlocksParams& params, const ScoreWorkspace& workspace, int tile_rows);
ScoreArguments mass_arguments(const SelectBlocksParams& params, const ScoreWorkspace& workspace, int tile_rows);

CUresult launch_score_passes(const ScoreKernels& kernels, const SelectBlocksParams& params,
                             const ScoreWorkspace& workspace, CUstream stream);

}  // namespace jenga::cuda
