// The producer warp of the kernels with int8 keys and e4m3 values: walks a tile's units and keeps the ring filled.
// Codes and values come by the copy engine, scales by the lanes' own copies, bias by their stores.
#pragma once

#include "kernels/cuda/sm90/copy_async.h"
#include "kernels/cuda/sm90/fp8_storage.h"
#include "kernels/cuda/sm90/produce.h"

namespace jenga::cuda::sm90 {

// As kPlanLead; a unit takes less than half as long here, and queries are quantised.
inline constexpr int kFp8PlanLead = 16;

// Scales of the keys of a unit that has a bias, zeros past the last row. scales, rows: of this head.
__device__ __forceinline__ void copy_each_scale(float* shared, const float* scales, int rows, const UnitSource& source,
                                                int lane) {
#pragma unroll
  for (int quarter = 0; quarter < 4; ++quarter) {
    const int row = source.row[quarter / 2] + quarter % 2 * 32 + lane;
    const bool valid = row < rows;
    const int scale = source.is_tail ? row : row / static_cast<int>(kKeyScaleRows);
    copy_async_word(shared + quarter * 32 + lane, scales + (valid ? scale : 0), valid);
  }
}

// Scales of any other unit, each where that of its first key would be.
__device__ __forceinline__ void copy_scales(float* shared, const float* scales, const UnitSource& source, int lane) {
  static_assert(kBoxRows == kKeyScaleRows);
  const int row = lane == 0 ? source.row[0] : source.row[1];
  if (lane < 2) copy_async_word(shared + lane * kBoxRows, scales + row / kBoxRows, true);
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
    const float* const tail_scales = p.k_tail.scale + batch_head * walk.num_tail_cells;
    const int num_units = plan.units.all(), biased_units = plan.units.biased();
    UnitWalk units(walk, plan);
    for (int unit = 0; unit < num_units; ++unit, ring.advance()) {
      // The planners come back to this plan's slot only when the next tile asks for another plan in its turn.
      if (unit == max(num_units - kFp8PlanLead, 0)) barrier_arrive(&shared.plan_wanted);
      const UnitSource source = units.next(unit, lane);
      UnitSlot& slot = shared.unit[ring.slot];
      Barrier *const k_full = &shared.k_full[ring.slot], *const v_full = &shared.v_full[ring.slot];
      barrier_wait(&shared.unit_empty[ring.slot], ring.empty_parity());
      if (lane == 0) load_fp8_unit(args, slot, k_full, v_full, source, head, batch);
      const bool biased = unit < biased_units;
      if (biased) {
        const int rows = source.is_tail ? walk.num_tail_cells : carved_rows;
        copy_each_scale(slot.k_scale, source.is_tail ? tail_scales : scales, rows, source, lane);
      } else {
        copy_scales(slot.k_scale, scales, source, lane);
      }
      arrive_after_copies(k_full);
      if (biased) {
        for (int column = lane; column < kUnitKeys; column += 32)
          slot.bias[column] = key_bias(walk, plan, source, unit, column);
      }
      barrier_arrive(k_full);
    }
    if (num_units == 0) barrier_arrive(&shared.plan_wanted);
  }
}

}  // namespace jenga::cuda::sm90
