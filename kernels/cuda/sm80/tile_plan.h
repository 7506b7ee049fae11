// What one thread block works on.
#pragma once

#include "kernels/cuda/sm80/attention_arguments.h"
#include "kernels/cuda/sm80/unit_reader.h"

namespace jenga::cuda::sm80 {

static_assert(sizeof(TilePlan) == kPlanBytes);

// Called by all threads of the block. kept: bitset of the listed blocks, filled only where there is a tail.
template <class Shape>
__device__ __forceinline__ void plan_tile(const TileWalk& walk, TilePlan& shared_plan, uint32_t* kept) {
  constexpr int kUnitKeys = Shape::kUnitKeys;
  TilePlan plan;
  plan.block = locate(walk, blockIdx.x / Shape::kTilesPerBlock);
  plan.first_row = plan.block.first_row + blockIdx.x % Shape::kTilesPerBlock * Shape::kTileRows;
  int tail_units = 0;
  if (walk.num_tail_cells > 0 && !plan.block.is_context) {
    mark_kept(walk, plan.block, kept, threadIdx.x, kThreads, [] { __syncthreads(); });
    const int units = (walk.num_tail_cells + kUnitKeys - 1) / kUnitKeys;
    for (int first = 0; first < units; first += kThreads) {
      const int unit = first + threadIdx.x;
      tail_units += __syncthreads_count(unit < units && has_dropped_cell<kUnitKeys>(walk, kept, unit));
    }
  }
  plan.units = count_units<kUnitKeys>(walk, plan.block, tail_units);
  if (threadIdx.x == 0) shared_plan = plan;
  __syncthreads();
}

}  // namespace jenga::cuda::sm80
