// Copies from global to shared memory: the queries of a tile, then K and V of its units, which pass in turn through one
// ring of 2 or 3 slots that cp.async fills ahead.
#pragma once

#include "kernels/cuda/common/element.h"
#include "kernels/cuda/sm80/mma.h"
#include "kernels/cuda/sm80/tile_plan.h"

namespace jenga::cuda::sm80 {

// The rows of a unit into a slot; rows from num_valid on and channels past head_dim are zeros. Stride: int32 or int64.
template <class Shape, class Stride>
__device__ __forceinline__ void copy_unit(uint32_t target, const uint16_t* source, Stride stride, int num_valid,
                                          int head_dim) {
  constexpr int kCopies = Shape::kUnitKeys * Shape::kChunks / kThreads;
  if constexpr (kThreads % Shape::kChunks == 0) {
    constexpr int kRowStep = kThreads / Shape::kChunks;
    static_assert(kRowStep % 8 == 0 || kRowStep == 4, "the swizzle must repeat");
    const int row = threadIdx.x / Shape::kChunks, chunk = threadIdx.x % Shape::kChunks;
    const int rows_left = chunk * kVectorElements < head_dim ? num_valid - row : 0;  // from this one on
    source += int64_t{row} * stride + chunk * kVectorElements;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      copy_async(target + Shape::offset(row + i * kRowStep, chunk), source, i * kRowStep < rows_left);
      source += int64_t{kRowStep} * stride;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int index = threadIdx.x + i * kThreads;
      const int row = index / Shape::kChunks, chunk = index % Shape::kChunks;
      copy_async(target + Shape::offset(row, chunk), source + int64_t{row} * stride + chunk * kVectorElements,
                 chunk * kVectorElements < head_dim && row < num_valid);
    }
  }
}

// The 16-bit queries of a tile; rows and channels that do not exist are zeros.
template <class Shape>
__device__ __forceinline__ void copy_queries(const BlockSparseAttentionParams& p, const TilePlan& plan,
                                             uint32_t target) {
  const Strides& strides = p.q.strides;
  const uint16_t* q =
      static_cast<const uint16_t*>(p.q.data) + plan.block.batch * strides.batch + plan.block.head * strides.head;
  const int32_t* tokens = p.token_index + (plan.block.is_context ? 0 : p.num_context);
  const int num_rows = static_cast<int>(plan.block.is_context ? p.num_context : p.num_video) - plan.first_row;
#pragma unroll
  for (int i = 0; i < Shape::kTileRows * Shape::kChunks / kThreads; ++i) {
    const int index = threadIdx.x + i * kThreads;
    const int row = index / Shape::kChunks, chunk = index % Shape::kChunks;
    const int64_t token = row < num_rows ? tokens[plan.first_row + row] : 0;
    copy_async(target + Shape::offset(row, chunk), q + token * strides.token + chunk * kVectorElements,
               row < num_rows && chunk * kVectorElements < p.head_dim);
  }
}

// The copies of the units of one tile.
template <class Shape>
struct CopyQueue {
  static constexpr int kUnitKeys = Shape::kUnitKeys;
  const AttentionArguments& args;
  const TilePlan& plan;
  const uint32_t* kept;
  uint32_t ring;
  float* bias;  // [2][kUnitKeys], of even and odd units
  UnitReader<kUnitKeys> reader;
  int remaining;  // slots' worth not yet asked for, K and V of a unit counted apart
  int slot = 0;   // the next to fill

  // Asks for the next K or V; a group of copies is closed even where there is none, so that groups count slots.
  __device__ void fill_next_slot() {
    if (remaining > 0) {
      const BlockSparseAttentionParams& p = args.walk.params;
      const bool is_key = remaining % 2 == 0;
      if (is_key) {
        const bool biased = reader.unit < plan.units.biased();
        reader.advance(args.walk, plan, kept);
        if (biased && threadIdx.x < kUnitKeys)
          bias[(reader.unit - 1) % 2 * kUnitKeys + threadIdx.x] = reader.bias(args.walk, plan, kept, threadIdx.x);
      }
      const Operand& rows = is_key ? (reader.is_tail ? p.k_tail : p.k_carved) : reader.is_tail ? p.v_tail : p.v_carved;
      const int64_t start = plan.block.batch * rows.strides.batch + plan.block.head * rows.strides.head;
      copy_unit<Shape>(ring + slot * Shape::kUnitBytes,
                       static_cast<const uint16_t*>(rows.data) + start + reader.first * rows.strides.token,
                       rows.strides.token, reader.num_valid, static_cast<int>(p.head_dim));
      --remaining;
    }
    commit_copies();
    slot = slot + 1 == args.slots ? 0 : slot + 1;
  }

  // Waits for the oldest copy asked for, then asks for one more: after the barrier nobody reads its slot.
  __device__ void next_slot() {
    if (args.slots == 2) {
      wait_copies<0>();
    } else {
      wait_copies<1>();
    }
    __syncthreads();
    fill_next_slot();
  }
};

}  // namespace jenga::cuda::sm80
