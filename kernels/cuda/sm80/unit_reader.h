// The plan of a tile, and the walk over its units (kernels/cuda/common/tile_walk.h) for the copies. Reads no thread or
// block index, so that it can be tested on the host.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/common/tile_walk.h"
#include "kernels/cuda/sm80/shape.h"

namespace jenga::cuda::sm80 {

// Lies in shared memory: registers are short, and only the copies read it.
struct TilePlan {
  QueryBlock block;
  int32_t first_row;  // of the tile, among the context or the video rows
  UnitCounts units;
};

// Walks the units in order, for the copies: rows of the carved keys, or tail cells.
template <int kUnitKeys>
struct UnitReader {
  int first = 0;      // first key row, or cell of a tail unit
  int num_valid = 0;  // rows past it do not exist
  bool is_tail = false;
  int unit = 0;           // the next one
  int tail_cursor = -1;   // the last tail unit read
  int position = -1;      // in the list, of the key block that whole units come from
  int unit_of_block = 0;  // the next one
  int32_t block = 0;

  // Asks for the next key block of the list.
  __device__ void next_block(const TilePlan& plan) {
    unit_of_block = 0;
    ++position;
    if (position < plan.block.count) block = plan.block.is_context ? position : plan.block.list[position];
  }

  __device__ void advance(const TileWalk& walk, const TilePlan& plan, const uint32_t* kept) {
    const int padded_context = walk.context_blocks * static_cast<int>(kContextAlignment);
    const int num_video = static_cast<int>(walk.params.num_video);
    num_valid = kUnitKeys;
    is_tail = false;
    if (unit >= plan.units.biased()) {
      const int block_rows = static_cast<int>(walk.params.kv_block_size);
      first = padded_context + block * block_rows + unit_of_block * kUnitKeys;
      if (++unit_of_block * kUnitKeys == block_rows) next_block(plan);
    } else if (unit < plan.units.context) {
      first = unit * kUnitKeys;
    } else if (unit < plan.units.context + plan.units.tail) {
      do ++tail_cursor;
      while (!has_dropped_cell<kUnitKeys>(walk, kept, tail_cursor));
      is_tail = true;
      first = tail_cursor * kUnitKeys;
      num_valid = min(kUnitKeys, walk.num_tail_cells - first);
    } else {  // the end of the video: key blocks are whole units everywhere else
      first = padded_context + num_video / kUnitKeys * kUnitKeys;
      num_valid = num_video % kUnitKeys;
    }
    ++unit;
  }

  // What is added to the raw score of key `key` of this unit. Biased units only.
  __device__ float bias(const TileWalk& walk, const TilePlan& plan, const uint32_t* kept, int key) const {
    if (is_tail) return tail_bias(walk, kept, first + key, log_count(walk, plan.block, first + key));
    const bool is_video = first >= walk.context_blocks * static_cast<int>(kContextAlignment);
    if (is_video) return key < num_valid ? 0.f : -INFINITY;
    return context_bias(walk, plan.block, first + key);
  }
};

}  // namespace jenga::cuda::sm80
