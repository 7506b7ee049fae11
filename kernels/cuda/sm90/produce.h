// The producer warp: walks a tile's units and keeps the rings of K and V filled by the copy engine, K one unit ahead of
// V, and writes the bias of the units that have one.
#pragma once

#include "kernels/cuda/sm90/shared_storage.h"
#include "kernels/cuda/sm90/tma.h"

namespace jenga::cuda::sm90 {

// The next ticket is drawn this many units before the producer is done with a tile: late, so that no block sits on a
// tile that another could start, but early enough for the queries to arrive in time.
inline constexpr int kPlanLead = 3;

// Reads a tile's list in windows of 32 entries, one a lane. Context tiles take every block.
struct ListReader {
  const int32_t* list;
  int count;
  bool everything;
  int window = -1;
  int32_t entries = 0;

  // The whole warp calls this together; entries past the end give -1.
  __device__ __forceinline__ int at(int position, int lane) {
    if (position >= count) return -1;
    if (everything) return position;
    if (position / 32 != window) {
      window = position / 32;
      const int mine = window * 32 + lane;
      entries = mine < count ? list[mine] : -1;
    }
    return __shfl_sync(0xFFFFFFFFu, entries, position % 32);
  }
};

// A unit's source rows, one per box of 64; a box that starts past the last row arrives as zeros.
struct UnitSource {
  bool is_tail;
  int row[2];
};

__device__ __forceinline__ UnitSource video_unit(const TileWalk& walk, ListReader& reader, int unit, int lane) {
  const int first_row = walk.context_blocks * static_cast<int>(kContextAlignment);
  UnitSource source;
  source.is_tail = false;
  if (walk.params.kv_block_size == kUnitKeys) {
    source.row[0] = first_row + reader.at(unit, lane) * kUnitKeys;
    source.row[1] = source.row[0] + kBoxRows;
  } else {
    source.row[0] = first_row + reader.at(2 * unit, lane) * kBoxRows;
    const int second = reader.at(2 * unit + 1, lane);
    source.row[1] = first_row + (second < 0 ? static_cast<int>(walk.params.num_video) : second * kBoxRows);
  }
  return source;
}

// The units of a tile in their order, context, tail, video; the partial one, which comes before the whole ones, lies
// behind them in the list.
struct UnitWalk {
  const TileWalk& walk;
  const UnitCounts units;
  uint64_t tail_units;
  ListReader reader;

  __device__ __forceinline__ UnitWalk(const TileWalk& walk, const TilePlan& plan)
      : walk(walk),
        units(plan.units),
        tail_units(plan.tail_units),
        reader{plan.block.list, plan.block.count, plan.block.is_context != 0} {}

  // The whole warp calls this for one unit after the other.
  __device__ __forceinline__ UnitSource next(int unit, int lane) {
    if (unit < units.context) return {false, {unit * kUnitKeys, unit * kUnitKeys + kBoxRows}};
    if (tail_units != 0) {
      const int first_cell = (__ffsll(tail_units) - 1) * kUnitKeys;
      tail_units &= tail_units - 1;
      return {true, {first_cell, first_cell + kBoxRows}};
    }
    return video_unit(walk, reader, unit < units.biased() ? units.whole : unit - units.biased(), lane);
  }
};

// Bias of key `column` of a unit in units of the raw scores, -inf where the key is not attended. log_count: of that
// column in a tail unit.
__device__ __forceinline__ float key_bias(const TileWalk& walk, const TilePlan& plan, const UnitSource& source,
                                          int unit, int column, float log_count) {
  if (source.is_tail) return tail_bias(walk, plan.kept, source.row[0] + column, log_count);
  const int row = (column < kBoxRows ? source.row[0] : source.row[1]) + column % kBoxRows;
  if (unit < walk.context_blocks) return context_bias(walk, plan.block, row);
  return row < walk.context_blocks * kContextAlignment + walk.params.num_video ? 0.f : -INFINITY;
}

template <int kHeadDim>
__device__ __forceinline__ void load_unit(void* shared, const CUtensorMap* map, Barrier* barrier,
                                          const UnitSource& source, int head, int batch) {
#pragma unroll
  for (int panel = 0; panel < kHeadDim / kPanelChannels; ++panel) {
#pragma unroll
    for (int box = 0; box < 2; ++box) {
      tma_load(static_cast<uint8_t*>(shared) + panel * kPanelBytes + box * kBoxRows * kPanelRowBytes, map, barrier,
               panel * kPanelChannels, source.row[box], head, batch);
    }
  }
}

template <int kHeadDim>
__device__ __forceinline__ void produce(const AttentionArguments& args, SharedStorage<kHeadDim>& shared, int lane) {
  using Shared = SharedStorage<kHeadDim>;
  const TileWalk& walk = args.walk;
  RingPosition<kPlanSlots> tile;
  RingPosition<Shared::kKeySlots> k_ring;
  RingPosition<Shared::kValueSlots> v_ring;
  RingPosition<kBiasSlots> bias_ring;
  for (;; tile.advance()) {
    barrier_wait(&shared.plan_full[tile.slot], tile.full_parity);
    const TilePlan& plan = shared.plan[tile.slot];
    if (plan.block.batch < 0) return;
    const int batch = plan.block.batch, head = plan.block.head;
    const int num_units = plan.units.all(), biased_units = plan.units.biased();
    UnitWalk walk_units(walk, plan);
    UnitSource previous{};
    for (int unit = 0; unit <= num_units; ++unit) {
      UnitSource source{};
      if (unit < num_units) {
        source = walk_units.next(unit, lane);
        float log_counts[kUnitKeys / 32] = {};  // asked for before the waits
        if (source.is_tail) {
#pragma unroll
          for (int i = 0; i < kUnitKeys / 32; ++i)
            log_counts[i] = log_count(walk, plan.block, source.row[0] + lane + 32 * i);
        }
        Barrier* full = &shared.k_full[k_ring.slot];
        barrier_wait(&shared.k_empty[k_ring.slot], k_ring.empty_parity());
        if (lane == 0) {
          barrier_arrive_expect_bytes(full, Shared::kUnitBytes);
          load_unit<kHeadDim>(shared.k[k_ring.slot], source.is_tail ? &args.k_tail_map : &args.k_map, full, source,
                              head, batch);
        }
        k_ring.advance();
        if (unit < biased_units) {
          barrier_wait(&shared.bias_empty[bias_ring.slot], bias_ring.empty_parity());
#pragma unroll
          for (int i = 0; i < kUnitKeys / 32; ++i) {
            const int column = lane + 32 * i;
            shared.bias[bias_ring.slot][column] = key_bias(walk, plan, source, unit, column, log_counts[i]);
          }
          barrier_arrive(&shared.bias_full[bias_ring.slot]);
          bias_ring.advance();
        }
      }
      if (unit > 0) {
        Barrier* full = &shared.v_full[v_ring.slot];
        barrier_wait(&shared.v_empty[v_ring.slot], v_ring.empty_parity());
        if (lane == 0) {
          barrier_arrive_expect_bytes(full, Shared::kUnitBytes);
          load_unit<kHeadDim>(shared.v[v_ring.slot], previous.is_tail ? &args.v_tail_map : &args.v_map, full, previous,
                              head, batch);
        }
        v_ring.advance();
      }
      previous = source;
      // The planners come back to this plan's slot only when the next tile asks for another plan in its turn.
      if (unit == max(num_units - kPlanLead, 0)) barrier_arrive(&shared.plan_wanted);
    }
  }
}

}  // namespace jenga::cuda::sm90
