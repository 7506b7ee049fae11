// What the sm_90a attention kernel gets by value: the operator's parameters, the copy engine's maps and the schedule.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/params.h"

namespace jenga::cuda::sm90 {

inline constexpr int kTileRows = 128;       // query rows a thread block works on
inline constexpr int kStageRows = 128;      // key rows per pipeline stage
inline constexpr int kBoxRows = 64;         // key rows per copy: two listed 64-blocks fill a stage
inline constexpr int kMaxTailCells = 8192;  // bounds the bitset of kept key blocks and the mask of tail stages

struct AttentionArguments {
  BlockSparseAttentionParams params;
  CUtensorMap k_map, v_map, k_tail_map, v_tail_map;  // [batch, head, row, channel], box of 64 rows x 64 channels
  const int32_t* tile_order;                         // [B * H, nq] query blocks, longest list first
  int32_t* next_ticket;                              // work counter, zero at launch
  int32_t context_tiles;                             // query tiles of context rows per head = context stages
  int32_t num_q_blocks;
  int32_t num_kv_blocks;
  int32_t num_tail_cells;  // 0: no compensation
  int32_t num_tickets;     // query tiles of the whole launch
  int32_t first_context_ticket;
  // For the bias of a key, in units of the raw scores. Divisions and logarithms are done on the host: one warp writes
  // the bias of a stage while two warpgroups wait for it.
  int32_t block_cells_log2;  // a key block has 1, 2 or 4 tail cells
  float cell_bias;           // log(n_c) / softmax_scale of a full tail cell
  float last_cell_bias;      // of the last one, which may be ragged
  float inverse_scale;       // 1 / softmax_scale
};

}  // namespace jenga::cuda::sm90
