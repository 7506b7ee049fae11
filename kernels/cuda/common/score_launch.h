// Launch of the scoring kernels of all architectures: two passes, over coarse cells and over key cells.
#pragma once

#include "kernels/cuda/common/score_arguments.h"
#include "kernels/cuda/driver/kernel.h"

namespace jenga::cuda {

// The kernels of both passes for one head dim, and how they are launched.
struct ScoreKernels {
  const KernelPair<ScoreArguments>&shifts, &masses;
  int threads;
  int tile_rows;  // query cells of a thread block
  int64_t shared_bytes;
};

// coarse, cells: of the two passes; heads: B * H.
CUresult launch_score_passes(const ScoreKernels& kernels, DataType dtype, const ScoreArguments& coarse,
                             const ScoreArguments& cells, int64_t heads, CUstream stream);

}  // namespace jenga::cuda
