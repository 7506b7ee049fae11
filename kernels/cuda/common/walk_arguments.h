// What every attention kernel gets of a call: the operands, and what the walk over their units needs to know
// (common/tile_walk.h).
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/common/layout.h"

namespace jenga::cuda {

// By value in the arguments of every kernel; made by make_tile_walk on the host. Divisions and logarithms of the bias
// are done there: few threads write the bias of a unit while many wait for it.
struct TileWalk {
  BlockSparseAttentionParams params;
  const int32_t* tile_order;  // [B * H, nq] query blocks, longest list first
  int32_t context_blocks;     // query blocks of context rows per head
  int32_t num_q_blocks;       // of video rows per head
  int32_t num_kv_blocks;
  int32_t num_tail_cells;        // 0: no compensation
  int32_t first_context_ticket;  // the context tickets of all heads come in one go
  int32_t block_cells_log2;      // a key block has 1, 2 or 4 tail cells
  float whole_log_count;         // log(n_c) of a full tail cell, where params.tail_bias says nothing
  float last_log_count;          // of the last one, which may be ragged
  float inverse_scale;           // 1 / softmax_scale
};

inline int64_t num_tickets(const BlockSparseAttentionParams& p) {
  return p.batch * p.heads * (ceil_div(p.num_context, kQueryBlockRows) + ceil_div(p.num_video, kQueryBlockRows));
}

// Context tickets come first.
inline TileWalk make_tile_walk(const BlockSparseAttentionParams& p, const int32_t* tile_order) {
  TileWalk walk{};
  walk.params = p;
  walk.tile_order = tile_order;
  walk.context_blocks = static_cast<int32_t>(ceil_div(p.num_context, kQueryBlockRows));
  walk.num_q_blocks = static_cast<int32_t>(ceil_div(p.num_video, kQueryBlockRows));
  walk.num_kv_blocks = static_cast<int32_t>(ceil_div(p.num_video, p.kv_block_size));
  walk.num_tail_cells = static_cast<int32_t>(num_tail_cells(p));
  walk.inverse_scale = 1.f / p.softmax_scale;
  if (walk.num_tail_cells > 0) {
    while (p.tail_block_size << walk.block_cells_log2 < p.kv_block_size) ++walk.block_cells_log2;
    const int64_t last_rows = p.num_video - (walk.num_tail_cells - 1) * p.tail_block_size;
    walk.whole_log_count = static_cast<float>(std::log(static_cast<double>(p.tail_block_size)));
    walk.last_log_count = static_cast<float>(std::log(static_cast<double>(last_rows)));
  }
  return walk;
}

}  // namespace jenga::cuda
