// Which keys a query tile attends, and in what order: the same for every architecture.
//
// Words of all attention kernels. Query block: 128 query rows that share one list. Key block: what a list keeps. Tile:
// the query rows that a thread block works on at a time, of the context or of the video, all in one query block. Unit:
// the keys that it scores at a time, kUnitKeys of them, which is up to the architecture. Slot: a place in a ring of
// shared memory that data passes through. Ticket: the number of a query block in the order of work.
//
// Units of a tile: context; tail cells, where a unit holds a dropped one; the video unit that has keys missing (the end
// of the video, or of a list that does not fill its last unit); whole video units, which alone need no bias per key.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/common/walk_arguments.h"

namespace jenga::cuda {

// The query block behind a ticket, and its list.
struct QueryBlock {
  int32_t batch, head;
  int32_t is_context;
  int32_t first_row;    // among the context or the video rows
  int32_t count;        // key blocks in the list; context rows take all of them, without a list
  const int32_t* list;  // null for context rows
};

__device__ __forceinline__ QueryBlock locate(const TileWalk& walk, int ticket) {
  const BlockSparseAttentionParams& p = walk.params;
  const int heads = static_cast<int>(p.heads);
  const int context_tickets = static_cast<int>(p.batch) * heads * walk.context_blocks;
  const int context_rank = ticket - walk.first_context_ticket;
  QueryBlock block;
  block.is_context = context_rank >= 0 && context_rank < context_tickets;
  block.count = walk.num_kv_blocks;
  block.list = nullptr;
  int batch_head, index;
  if (block.is_context) {
    batch_head = context_rank / walk.context_blocks;
    index = context_rank - batch_head * walk.context_blocks;
  } else {
    const int rank = context_rank < 0 ? ticket : ticket - context_tickets;
    batch_head = rank / walk.num_q_blocks;
    index = walk.tile_order[rank];
    const int64_t row = static_cast<int64_t>(batch_head) * walk.num_q_blocks + index;
    block.count = p.kv_block_count[row];
    block.list = p.kv_block_index + row * p.max_kv;
  }
  block.first_row = index * static_cast<int>(kQueryBlockRows);
  block.batch = batch_head / heads;
  block.head = batch_head - block.batch * heads;
  return block;
}

// How many units of each kind a tile has.
struct UnitCounts {
  int32_t context, tail, partial, whole;
  __device__ int biased() const { return context + tail + partial; }
  __device__ int all() const { return biased() + whole; }
};

// Video units: of the rows that the listed blocks really have. tail: as counted by the caller.
template <int kUnitKeys>
__device__ __forceinline__ UnitCounts count_units(const TileWalk& walk, const QueryBlock& block, int tail) {
  const int block_rows = static_cast<int>(walk.params.kv_block_size),
            num_video = static_cast<int>(walk.params.num_video);
  int rows = block.count * block_rows;
  const int last = block.count == 0 ? -1 : block.list == nullptr ? block.count - 1 : block.list[block.count - 1];
  if (last == walk.num_kv_blocks - 1) rows -= walk.num_kv_blocks * block_rows - num_video;
  return {(static_cast<int>(walk.params.num_context) + kUnitKeys - 1) / kUnitKeys, tail, rows % kUnitKeys != 0,
          rows / kUnitKeys};
}

// Bitset of the listed key blocks, made only where there is a tail.
__device__ __forceinline__ bool is_kept(const uint32_t* kept, int block) { return kept[block / 32] >> block % 32 & 1; }

// Called by `threads` threads together; sync() makes them wait for each other.
template <class Sync>
__device__ __forceinline__ void mark_kept(const TileWalk& walk, const QueryBlock& block, uint32_t* kept, int thread,
                                          int threads, Sync sync) {
  for (int word = thread; word * 32 < walk.num_kv_blocks; word += threads) kept[word] = 0;
  sync();
  for (int i = thread; i < block.count; i += threads) {
    const int index = block.list[i];
    atomicOr(&kept[index / 32], 1u << index % 32);
  }
  sync();
}

// True where tail unit `unit` holds a cell whose key block was dropped: then the unit is attended.
template <int kUnitKeys>
__device__ __forceinline__ bool has_dropped_cell(const TileWalk& walk, const uint32_t* kept, int unit) {
  const int blocks = kUnitKeys >> walk.block_cells_log2;  // a power of two from 4 on
  const int first = unit * blocks, last = min(first + blocks, walk.num_kv_blocks);
  bool dropped = false;
  for (int block = first; block < last; block += 32) {
    const int number = last - block;
    const uint32_t valid = number >= 32 ? 0xFFFFFFFFu : (1u << number) - 1u;
    dropped |= (~(kept[block / 32] >> block % 32) & valid) != 0;
  }
  return dropped;
}

// The logarithm of how many keys a tail cell counts as, a load: who asks early need not wait for it.
__device__ __forceinline__ float log_count(const TileWalk& walk, const QueryBlock& block, int cell) {
  if (walk.params.tail_bias == nullptr)
    return cell == walk.num_tail_cells - 1 ? walk.last_log_count : walk.whole_log_count;
  const int64_t head = block.batch * walk.params.heads + block.head;
  return walk.params.tail_bias[head * walk.num_tail_cells + min(cell, walk.num_tail_cells - 1)];
}

// Biases in units of the raw scores, -inf where the key is not attended.
__device__ __forceinline__ float tail_bias(const TileWalk& walk, const uint32_t* kept, int cell, float log_count) {
  const bool dropped = cell < walk.num_tail_cells && !is_kept(kept, cell >> walk.block_cells_log2);
  return dropped ? log_count * walk.inverse_scale : -INFINITY;
}

// Of a context row, which may lie in the gap behind the context.
__device__ __forceinline__ float context_bias(const TileWalk& walk, const QueryBlock& block, int row) {
  const BlockSparseAttentionParams& p = walk.params;
  if (row >= p.num_context) return -INFINITY;
  if (p.context_bias == nullptr) return 0.f;
  const int padded_context = walk.context_blocks * static_cast<int>(kContextAlignment);
  const float bias = p.context_bias[static_cast<int64_t>(block.batch) * padded_context + row];
  if (bias == -INFINITY) return bias;
  return block.is_context ? 0.f : bias * walk.inverse_scale;
}

}  // namespace jenga::cuda
