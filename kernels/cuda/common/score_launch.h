// Launch of the scoring kernels of all architectures: two passes, over coarse cells and over key cells.
#pragma once

#include "kernels/cuda/common/score_arguments.h"
#include "kernels/cuda/driver/kernel.h"

namespace jenga::cuda {

// The kernels of both passes for one head dim, and how they are launched.
struct ScoreKernels {
  const KernelPair<ScoreArguments>&shifts, &masses;
  int threads;
  int tile_rows;  // query cells of a tile
  int64_t shared_bytes;
  // Key cells of a stage, where one thread block a multiprocessor shares the second pass with the others, pairs of a
  // tile and a stage; 0 where a thread block has a tile and all its key cells, as all have in the first pass, since a
  // query cell's sum is of all key cells.
  int shared_stage = 0;
};

// coarse, cells: of the two passes; heads: B * H.
CUresult launch_score_passes(const ScoreKernels& kernels, DataType dtype, const ScoreArguments& coarse,
                             const ScoreArguments& cells, int64_t heads, CUstream stream);

}  // namespace jenga::cuda
