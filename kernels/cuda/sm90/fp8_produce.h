// The producer warp of the kernels with int8 keys and e4m3 values: walks a tile's units and keeps the ring filled.
// Codes and values come by the copy engine, scales by the lanes' own copies, what a unit has missing by their stores.
#pragma once

#include "kernels/cuda/sm90/copy_async.h"
#include "kernels/cuda/sm90/fp8_storage.h"
#include "kernels/cuda/sm90/produce.h"

namespace jenga::cuda::sm90 {

// As kPlanLead; a unit takes less than half as long here, and queries are quantised.
inline constexpr int kFp8PlanLead = 16;

// The scales of a unit's two boxes. boxes: those that have a key, as bits; one without gets the scale of the other, by
// which the sum of a missing key is below that of any key. scales: of this head.
__device__ __forceinline__ void copy_scales(float* shared, const float* scales, const UnitSource& source,
                                            uint32_t boxes, int lane) {
  static_assert(kBoxRows == kKeyScaleRows);
  if (lane >= 2) return;
  const int box = (boxes >> lane & 1) != 0 ? lane : lane ^ 1;
  const int row = box == 0 ? source.row[0] : source.row[1];
  copy_async_word(shared + lane, scales + row / kBoxRows);
}

// Key i of the four of a unit that a lane looks at. Lanes 0 .. 15 look at the first box.
__device__ __forceinline__ int key_of_lane(int lane, int i) {
  return lane / 4 * 16 + key_at_position(lane % 4 * 4 + i);
}

// What a unit that is not whole has missing. Returns the boxes that have a key, as bits; those of a unit without any
// key are both. log_counts: of this lane's keys in a tail unit. scale_log2: of a whole score.
__device__ __forceinline__ uint32_t write_missing(const TileWalk& walk, const TilePlan& plan, UnitSlot& slot,
                                                  const UnitSource& source, int unit, const float (&log_counts)[4],
                                                  float scale_log2, int lane) {
  const float shared_bias = source.is_tail ? walk.whole_log_count * walk.inverse_scale : 0.f;
  float bias[4];
  bool any = false, biased = false;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    bias[i] = key_bias(walk, plan, source, unit, key_of_lane(lane, i), log_counts[i]);
    const bool is_present = bias[i] > -INFINITY;
    any |= is_present;
    biased |= is_present && bias[i] != shared_bias;
  }
  const uint32_t lanes = __ballot_sync(0xFFFFFFFFu, any);
  const bool has_bias = __any_sync(0xFFFFFFFFu, biased) || lanes == 0;
  uint32_t present = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int key = key_of_lane(lane, i);
    const bool is_present = bias[i] > -INFINITY;
    if (is_present) present |= 0xFFu << 8 * i;
    if (has_bias) {
      slot.bias[key] = bias[i] * scale_log2;
    } else {
      slot.missing[key] = is_present ? 0 : kMissing;
    }
  }
  slot.present[lane] = present;
  if (lane == 0) {
    slot.kind = has_bias ? UnitKind::kBiased : UnitKind::kMasked;
    slot.shared_bias = shared_bias * scale_log2;
  }
  return lanes == 0 ? 3u : ((lanes & 0xFFFFu) != 0 ? 1u : 0u) | (lanes >> 16 != 0 ? 2u : 0u);
}

__device__ __forceinline__ void load_fp8_unit(const Fp8Arguments& args, UnitSlot& slot, Barrier* k_full,
                                              Barrier* v_full, const UnitSource& source, int head, int batch) {
  const CUtensorMap* const k_map = source.is_tail ? &args.k_tail_map : &args.k_map;
  const CUtensorMap* const v_map = source.is_tail ? &args.v_tail_map : &args.v_map;
  const int batch_head = batch * static_cast<int>(args.walk.params.heads) + head;
  barrier_arrive_expect_bytes(k_full, sizeof slot.k);
  for (int box = 0; box < 2; ++box)
    tma_load(slot.k + box * kBoxRows * kCodeRowBytes, k_map, k_full, 0, source.row[box], head, batch);
  barrier_arrive_expect_bytes(v_full, 2 * kValueBlockBytes);
  for (int box = 0; box < 2; ++box)
    tma_load(slot.v[box].values, v_map, v_full, 0, 0, source.row[box] / kValueBlockKeys, batch_head);
}

__device__ __forceinline__ void produce_fp8(const Fp8Arguments& args, Fp8Storage& shared, int lane) {
  const TileWalk& walk = args.walk;
  const BlockSparseAttentionParams& p = walk.params;
  const int carved_rows = walk.context_blocks * static_cast<int>(kContextAlignment) + static_cast<int>(p.num_video);
  RingPosition<kPlanSlots> tile;
  RingPosition<kUnitSlots> ring;
  for (;; tile.advance()) {
    barrier_wait(&shared.plan_full[tile.slot], tile.full_parity);
    const TilePlan& plan = shared.plan[tile.slot];
    if (plan.block.batch < 0) return;
    const int batch = plan.block.batch, head = plan.block.head;
    const int64_t batch_head = batch * p.heads + head;
    const float* const scales = p.k_carved.scale + batch_head * scales_of_keys(carved_rows);
    const float* const tail_scales = p.k_tail.scale + batch_head * scales_of_keys(walk.num_tail_cells);
    const int num_units = plan.units.all(), biased_units = plan.units.biased();
    UnitWalk units(walk, plan);
    for (int unit = 0; unit < num_units; ++unit, ring.advance()) {
      // The planners come back to this plan's slot only when the next tile asks for another plan in its turn.
      if (unit == max(num_units - kFp8PlanLead, 0)) barrier_arrive(&shared.plan_wanted);
      const UnitSource source = units.next(unit, lane);
      float log_counts[4] = {};  // asked for before the wait
      if (source.is_tail) {
#pragma unroll
        for (int i = 0; i < 4; ++i) log_counts[i] = log_count(walk, plan.block, source.row[0] + key_of_lane(lane, i));
      }
      UnitSlot& slot = shared.unit[ring.slot];
      Barrier *const k_full = &shared.k_full[ring.slot], *const v_full = &shared.v_full[ring.slot];
      barrier_wait(&shared.unit_empty[ring.slot], ring.empty_parity());
      if (lane == 0) load_fp8_unit(args, slot, k_full, v_full, source, head, batch);
      const float scale_log2 = p.softmax_scale * kLog2E;
      const uint32_t boxes =
          unit < biased_units ? write_missing(walk, plan, slot, source, unit, log_counts, scale_log2, lane) : 3u;
      copy_scales(slot.k_scale, source.is_tail ? tail_scales : scales, source, boxes, lane);
      arrive_after_copies(k_full);
      barrier_arrive(k_full);
    }
    if (num_units == 0) barrier_arrive(&shared.plan_wanted);
  }
}

}  // namespace jenga::cuda::sm90
