// Which keys a query tile attends: units of 64 rows, in this order. Context rows; tail cells, where a unit has a
// dropped one; the ragged end of the video, if its block is listed; whole video units, which alone need no bias.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/sm80/tile.h"
#include "kernels/params.h"

namespace jenga::cuda::sm80 {

struct AttentionArguments {
  BlockSparseAttentionParams params;
  const int32_t* tile_order;  // [B * H, nq] query blocks, longest list first
  int32_t context_blocks;     // query blocks of context rows per head
  int32_t num_q_blocks;
  int32_t num_kv_blocks;
  int32_t num_tail_cells;  // 0: no compensation
  int32_t stages;          // ring slots in shared memory: 2 or 3
};

// A query tile: where it stands, its list, and how many units of each kind it has. Lies in shared memory: registers are
// short, and only the copies read it.
struct TilePlan {
  int batch, head;
  bool is_context;
  int first_row;        // among the context or the video rows
  const int32_t* list;  // kept key blocks; context tiles take all of them
  int context_units, tail_units, ragged_units, video_units;

  __device__ int biased_units() const { return context_units + tail_units + ragged_units; }
  __device__ int num_units() const { return biased_units() + video_units; }
};

__device__ __forceinline__ bool is_kept(const uint32_t* kept, int block) { return kept[block / 32] >> block % 32 & 1; }

// True where tail unit `unit` holds a cell whose key block was dropped: then the unit is attended.
__device__ __forceinline__ bool has_dropped_cell(const AttentionArguments& args, const uint32_t* kept, int unit) {
  const int cells_per_block = static_cast<int>(args.params.kv_block_size / args.params.tail_block_size);
  const int first = unit * kUnitKeys / cells_per_block;
  const int last = min(first + kUnitKeys / cells_per_block, args.num_kv_blocks);
  for (int block = first; block < last; ++block) {
    if (!is_kept(kept, block)) return true;
  }
  return false;
}

// Called by all threads of the block. kept: bitset of the listed blocks, filled only where there is a tail.
__device__ __forceinline__ void plan_tile(const AttentionArguments& args, int tiles_per_block, int query_rows,
                                          TilePlan& shared_plan, uint32_t* kept) {
  const BlockSparseAttentionParams& p = args.params;
  const int heads = static_cast<int>(p.heads), num_video = static_cast<int>(p.num_video);
  const int context_tickets = static_cast<int>(p.batch) * heads * args.context_blocks;
  const int ticket = blockIdx.x / tiles_per_block, part = blockIdx.x % tiles_per_block;
  TilePlan plan;
  plan.is_context = ticket < context_tickets;
  plan.list = nullptr;
  plan.tail_units = 0;
  const int rank = ticket - context_tickets;
  const int batch_head = plan.is_context ? ticket / args.context_blocks : rank / args.num_q_blocks;
  const int block = plan.is_context ? ticket % args.context_blocks : args.tile_order[rank];
  plan.batch = batch_head / heads;
  plan.head = batch_head - plan.batch * heads;
  plan.first_row = block * kQueryBlock + part * query_rows;
  plan.context_units = (static_cast<int>(p.num_context) + kUnitKeys - 1) / kUnitKeys;

  int count = args.num_kv_blocks, last = args.num_kv_blocks - 1;
  if (!plan.is_context) {
    const int64_t row = static_cast<int64_t>(batch_head) * args.num_q_blocks + block;
    plan.list = p.kv_block_index + row * p.max_kv;
    count = p.kv_block_count[row];
    last = count > 0 ? plan.list[count - 1] : -1;
  }
  const int units_per_block = static_cast<int>(p.kv_block_size) / kUnitKeys;
  plan.video_units = count * units_per_block;
  plan.ragged_units = 0;
  if (count > 0 && last == args.num_kv_blocks - 1) {
    plan.video_units += num_video / kUnitKeys - args.num_kv_blocks * units_per_block;
    plan.ragged_units = num_video % kUnitKeys != 0;
  }

  if (args.num_tail_cells > 0 && !plan.is_context) {
    for (int word = threadIdx.x; word < (args.num_kv_blocks + 31) / 32; word += kThreads) kept[word] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += kThreads) atomicOr(&kept[plan.list[i] / 32], 1u << plan.list[i] % 32);
    __syncthreads();
    const int units = (args.num_tail_cells + kUnitKeys - 1) / kUnitKeys;
    for (int first = 0; first < units; first += kThreads) {
      const int unit = first + threadIdx.x;
      plan.tail_units += __syncthreads_count(unit < units && has_dropped_cell(args, kept, unit));
    }
  }
  if (threadIdx.x == 0) shared_plan = plan;
  __syncthreads();
}

// Walks the units in order, for the copies: rows of the carved keys, or tail cells.
struct UnitReader {
  int first = 0;      // first key row, or cell of a tail unit
  int num_valid = 0;  // rows past it do not exist
  bool is_tail = false;
  int unit = 0;          // the next one
  int tail_cursor = -1;  // the last tail unit read
  int32_t next_block = 0;

  __device__ void prefetch(const AttentionArguments& args, const TilePlan& plan, int video_unit) {
    const int position = video_unit / static_cast<int>(args.params.kv_block_size / kUnitKeys);
    if (video_unit < plan.video_units) next_block = plan.is_context ? position : plan.list[position];
  }

  __device__ void advance(const AttentionArguments& args, const TilePlan& plan, const uint32_t* kept) {
    const int padded_context = args.context_blocks * static_cast<int>(kContextAlignment);
    const int num_video = static_cast<int>(args.params.num_video);
    num_valid = kUnitKeys;
    is_tail = false;
    const int video_unit = unit - plan.biased_units();
    if (video_unit >= 0) {
      const int units_per_block = static_cast<int>(args.params.kv_block_size) / kUnitKeys;
      first = padded_context + (next_block * units_per_block + video_unit % units_per_block) * kUnitKeys;
      prefetch(args, plan, video_unit + 1);
    } else if (unit < plan.context_units) {
      first = unit * kUnitKeys;
    } else if (unit < plan.context_units + plan.tail_units) {
      do ++tail_cursor;
      while (!has_dropped_cell(args, kept, tail_cursor));
      is_tail = true;
      first = tail_cursor * kUnitKeys;
      num_valid = min(kUnitKeys, args.num_tail_cells - first);
    } else {
      first = padded_context + num_video / kUnitKeys * kUnitKeys;
      num_valid = num_video % kUnitKeys;
    }
    ++unit;
  }

  // What is added to the logit of key `key` of this unit, -inf where it is not attended. Biased units only.
  __device__ float bias(const AttentionArguments& args, const TilePlan& plan, const uint32_t* kept, int key) const {
    const BlockSparseAttentionParams& p = args.params;
    if (key >= num_valid) return -INFINITY;
    if (is_tail) {
      const int tail_size = static_cast<int>(p.tail_block_size), cell = first + key;
      const int tokens = min(tail_size, static_cast<int>(p.num_video) - cell * tail_size);
      const int block = cell / static_cast<int>(p.kv_block_size / tail_size);
      return is_kept(kept, block) ? -INFINITY : logf(static_cast<float>(tokens));
    }
    const int padded_context = args.context_blocks * static_cast<int>(kContextAlignment);
    const int row = first + key;
    if (row >= padded_context) return 0.f;
    if (row >= p.num_context) return -INFINITY;
    if (p.context_bias == nullptr) return 0.f;
    const float value = p.context_bias[static_cast<int64_t>(plan.batch) * padded_context + row];
    return plan.is_context && value > -INFINITY ? 0.f : value;
  }
};

}  // namespace jenga::cuda::sm80
