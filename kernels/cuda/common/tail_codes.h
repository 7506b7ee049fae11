// The tail of int8 keys on its way to codes: means about the center (rule: kernels/params.h), of which as many as share
// a scale come from many thread blocks. quantise_tail.cu does the rest.
#pragma once

#include "kernels/cuda/common/prepare_blocks.h"

namespace jenga::cuda {

// Tail cells that begin in a tile of kPrepareRows rows from first_row on, out of the sums over kPieceRows rows each.
// means [nc, D], center [D]: of this head.
__device__ __forceinline__ void write_centred_means(float* means, const float* center, int64_t cell_size,
                                                    const float* sums, int64_t first_row, int64_t num_rows,
                                                    int head_dim) {
  const int pieces = static_cast<int>(cell_size) / kPieceRows;
  const int cells = kPrepareRows / static_cast<int>(cell_size);
  for (int i = threadIdx.x; i < cells * head_dim; i += kPrepareThreads) {
    const int cell = i / head_dim, channel = i - cell * head_dim;
    const int64_t row = first_row + cell * cell_size;
    if (row >= num_rows) return;
    float sum = 0.f;
    for (int piece = cell * pieces; piece < (cell + 1) * pieces; ++piece) sum += sums[piece * head_dim + channel];
    const float count = static_cast<float>(num_rows - row < cell_size ? num_rows - row : cell_size);
    means[row / cell_size * head_dim + channel] = sum / count - center[channel];
  }
}

}  // namespace jenga::cuda
