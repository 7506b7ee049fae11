// What cases of select_blocks have in common.
#pragma once

#include <cmath>

#include "kernels/params.h"

namespace jenga::testing {

// shape: dtype, head_dim, num_video, kv_block_size, q_cells, k_cells. No tensors, and no rule of what is kept.
template <class Case>
SelectBlocksParams select_params(const Case& shape, int64_t batch, int64_t heads) {
  SelectBlocksParams params{};
  params.dtype = shape.dtype;
  params.batch = batch;
  params.heads = heads;
  params.head_dim = shape.head_dim;
  params.num_video = shape.num_video;
  params.q_block_size = 128;
  params.kv_block_size = shape.kv_block_size;
  params.q_cells = shape.q_cells;
  params.k_cells = shape.k_cells;
  params.softmax_scale = 1.5f / std::sqrt(static_cast<float>(shape.head_dim));
  return params;
}

}  // namespace jenga::testing
