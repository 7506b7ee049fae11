// The means of tail cells that become codes (rules: kernels/params.h).
#pragma once

#include "kernels/cuda/common/prepare_blocks.h"

namespace jenga::cuda {

// Calls take(cell, channel, mean) for the tail cells that begin in a tile of kPrepareRows rows from first_row on, out
// of the sums over kPieceRows rows each. All threads of the block.
template <class Take>
__device__ __forceinline__ void each_tail_mean(int64_t cell_size, const float* sums, int64_t first_row,
                                               int64_t num_rows, int head_dim, Take take) {
  const int pieces = static_cast<int>(cell_size) / kPieceRows;
  const int cells = kPrepareRows / static_cast<int>(cell_size);
  for (int i = threadIdx.x; i < cells * head_dim; i += kPrepareThreads) {
    const int cell = i / head_dim, channel = i - cell * head_dim;
    const int64_t row = first_row + cell * cell_size;
    if (row >= num_rows) return;
    float sum = 0.f;
    for (int piece = cell * pieces; piece < (cell + 1) * pieces; ++piece) sum += sums[piece * head_dim + channel];
    const float count = static_cast<float>(num_rows - row < cell_size ? num_rows - row : cell_size);
    take(row / cell_size, channel, sum / count);
  }
}

}  // namespace jenga::cuda
