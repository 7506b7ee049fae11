// The planner warps, which prepare the next tile: draw its ticket, mark its kept blocks, gather its queries as soon as
// a warpgroup is done with its old ones.
#pragma once

#include "kernels/cuda/sm90/copy_async.h"
#include "kernels/cuda/sm90/shared_storage.h"

namespace jenga::cuda::sm90 {

// The query rows of one consumer group.
template <class T, int kHeadDim>
__device__ __forceinline__ void gather_queries(const BlockSparseAttentionParams& p, const TilePlan& plan,
                                               uint8_t* shared_q, int group, int thread) {
  constexpr int kChunks = kHeadDim / 8;  // of 16 bytes, per row
  const Strides& strides = p.q.strides;
  const T* q = static_cast<const T*>(p.q.data) + plan.block.batch * strides.batch + plan.block.head * strides.head;
  for (int index = thread; index < kGroupRows * kChunks; index += kPlannerThreads) {
    const int row = group * kGroupRows + index / kChunks, chunk = index % kChunks;
    const int64_t token = plan.token[row];
    const T* source = token < 0 ? q : q + token * strides.token + chunk * 8;
    uint8_t* target = shared_q + chunk / 8 * kPanelBytes + row * kPanelRowBytes + ((chunk % 8) ^ (row % 8)) * 16;
    copy_async_16(target, source, token >= 0);
  }
}

// All planner threads. Fills everything but the query block.
__device__ __forceinline__ void complete_plan(const TileWalk& walk, TilePlan& plan, int thread) {
  const auto sync = [] { named_barrier_sync(kPlannerBarrier, kPlannerThreads); };
  const QueryBlock& block = plan.block;
  const int64_t limit = block.is_context ? walk.params.num_context : walk.params.num_video;
  const int32_t* token_index = walk.params.token_index + (block.is_context ? 0 : walk.params.num_context);
  for (int row = thread; row < kTileRows; row += kPlannerThreads) {
    const int64_t position = block.first_row + row;
    plan.token[row] = position < limit ? token_index[position] : -1;
  }
  const bool has_tail = walk.num_tail_cells > 0 && block.count < walk.num_kv_blocks;
  if (has_tail) mark_kept(walk, block, plan.kept, thread, kPlannerThreads, sync);
  if (thread >= 32) return;
  uint64_t tail_units = 0;
  if (has_tail) {
    const uint32_t low = __ballot_sync(0xFFFFFFFFu, has_dropped_cell<kUnitKeys>(walk, plan.kept, thread));
    const uint32_t high = __ballot_sync(0xFFFFFFFFu, has_dropped_cell<kUnitKeys>(walk, plan.kept, thread + 32));
    tail_units = static_cast<uint64_t>(high) << 32 | low;
  }
  if (thread == 0) {
    plan.tail_units = tail_units;
    plan.units = count_units<kUnitKeys>(walk, block, __popcll(tail_units));
  }
}

// The next tile's plan but for its queries, when it is wanted and its slot is free; false where no tile is left. All
// planner threads.
template <class Arguments, class Storage>
__device__ __forceinline__ bool plan_next_tile(const Arguments& args, Storage& shared,
                                               const RingPosition<kPlanSlots>& tile, int thread) {
  static_assert(kPlanSlots == 2, "a slot's number is the parity of the plans before");
  TilePlan& plan = shared.plan[tile.slot];
  barrier_wait(&shared.plan_wanted, tile.slot ^ 1);  // the first is wanted from the start
  barrier_wait(&shared.plan_empty[tile.slot], tile.empty_parity());
  if (thread == 0) {
    const int ticket = atomicAdd(args.next_ticket, 1);
    if (ticket < args.num_tickets) {
      plan.block = locate(args.walk, ticket);
    } else {
      plan.block.batch = -1;
    }
  }
  named_barrier_sync(kPlannerBarrier, kPlannerThreads);
  const bool done = plan.block.batch < 0;
  if (!done) complete_plan(args.walk, plan, thread);
  barrier_arrive(&shared.plan_full[tile.slot]);
  if (done) return false;
  named_barrier_sync(kPlannerBarrier, kPlannerThreads);  // for the tokens
  return true;
}

template <class T, int kHeadDim>
__device__ __forceinline__ void plan_tiles(const AttentionArguments& args, SharedStorage<kHeadDim>& shared,
                                           int thread) {
  RingPosition<kPlanSlots> tile;
  RingPosition<1> queries;
  for (;; tile.advance(), queries.advance()) {
    if (!plan_next_tile(args, shared, tile, thread)) return;
    const TilePlan& plan = shared.plan[tile.slot];
    for (int group = 0; group < kConsumerGroups; ++group) {
      barrier_wait(&shared.q_empty[group], queries.empty_parity());
      gather_queries<T, kHeadDim>(args.walk.params, plan, shared.q, group, thread);
      // The products read the queries through the async proxy: each writer fences its own copies, then arrives.
      wait_for_copies();
      fence_async_proxy();
      barrier_arrive(&shared.q_full[group]);
    }
  }
}

}  // namespace jenga::cuda::sm90
