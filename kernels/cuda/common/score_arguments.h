// What the scoring kernels of all architectures get (common/score_passes.h).
#pragma once

#include <cstdint>

namespace jenga::cuda {

struct ScoreArguments {
  const void *q_means, *k_means;
  float *shifts, *masses;
  int32_t head_dim, num_q_cells, num_k_cells, num_q_blocks, q_cells, k_cells;
  int32_t row_tiles, tiles_per_head;  // tiles of query cells
  int32_t mass_stride;                // floats of a row of masses
  int32_t q_cell_bits;                // log2 of q_cells
  float scale;                        // softmax_scale * log2(e)
  float last_k_logit;                 // log2 of the last key cell's tokens over a whole cell's, divided by scale
  float last_q_weight;                // log2 of the last query cell's tokens over a whole cell's
};

}  // namespace jenga::cuda
