// What a warp holds of its 16 or 32 query rows, and what it does once their scores are there: the same whatever the
// scores were made of.
#pragma once

#include "kernels/cuda/common/epilogue.h"
#include "kernels/cuda/common/softmax.h"
#include "kernels/cuda/sm80/mma.h"
#include "kernels/cuda/sm80/tile_plan.h"

namespace jenga::cuda::sm80 {

// Shared-memory addresses of the fragments that this lane gives to ldmatrix. Bit `chunk_bit` of the lane chooses
// between the two chunks of a 16-channel step, bit `row_bit` between rows 0 .. 7 and 8 .. 15.
template <class Shape>
struct FragmentAddress {
  uint32_t row_offset, chunk_offset;

  __device__ FragmentAddress(int lane, int row_bit, int chunk_bit, int first_row = 0) {
    const int row = first_row + lane % 8 + (lane >> row_bit & 1) * 8;
    row_offset = row * Shape::kRowBytes;
    chunk_offset = ((lane >> chunk_bit & 1) ^ Shape::swizzle(row)) * 16;
  }
  // Of channels 16 step .. 16 step + 15 in row group `group` of 16.
  __device__ uint32_t operator()(uint32_t base, int group, int step) const {
    return base + row_offset + group * 16 * Shape::kRowBytes + (chunk_offset ^ step * 32);
  }
};

// Layout of scores and outputs: softmax.h. Weights: what scores become, the first operand of the second product, so
// many words a row group. ValueAddress: where this lane reads the other one.
template <class T, class Shape, class ValueAddress, int kWeightWords>
struct RowTile {
  static constexpr int kHeadDim = Shape::kHeadDim, kUnitKeys = Shape::kUnitKeys, kRowGroups = Shape::kRowGroups;
  const ValueAddress value_address;
  float scores[kRowGroups][kUnitKeys / 2];
  uint32_t weights[kRowGroups][kWeightWords];
  float outputs[kRowGroups][kHeadDim / 2] = {};
  RowState state[kRowGroups];

  __device__ explicit RowTile(const ValueAddress& address) : value_address(address) {}

  // Outputs to units of the values; those in 16 bits are. head: batch * heads + head.
  __device__ __forceinline__ void finish(const BlockSparseAttentionParams&, int64_t, int) {}

  __device__ __forceinline__ void store(const BlockSparseAttentionParams& p, const TilePlan& plan, int warp, int lane) {
    const int num_rows = static_cast<int>(plan.block.is_context ? p.num_context : p.num_video);
    const int32_t* tokens = p.token_index + (plan.block.is_context ? 0 : p.num_context);
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = plan.first_row + (warp * kRowGroups + g) * 16 + lane / 4 + 8 * i;
        store_row<T, kHeadDim>(p, outputs[g], state[g], i, row < num_rows ? tokens[row] : -1, plan.block.batch,
                               plan.block.head, lane);
      }
    }
  }
};

// With weights, which are probabilities, and values in 16 bits.
template <class T, class Shape>
struct WarpTile : RowTile<T, Shape, FragmentAddress<Shape>, Shape::kUnitKeys / 4> {
  using Base = RowTile<T, Shape, FragmentAddress<Shape>, Shape::kUnitKeys / 4>;
  static constexpr int kHeadDim = Shape::kHeadDim, kUnitKeys = Shape::kUnitKeys;
  static constexpr int kRowGroups = Shape::kRowGroups, kSteps = kHeadDim / 16;
  __device__ static unsigned thread_at_end(unsigned thread) { return thread; }
  using Base::outputs;
  using Base::scores;
  using Base::state;
  using Base::value_address;
  using Base::weights;

  __device__ explicit WarpTile(int lane) : Base(FragmentAddress<Shape>(lane, 3, 4)) {}

  // Scores to probabilities; bias: of the unit's keys, or null.
  __device__ __forceinline__ void weigh(const float* bias, float scale_log2, int lane) {
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
      if (bias != nullptr) add_bias(scores[g], bias, lane);
      float rescale[2];
      update_softmax(scores[g], state[g], rescale, scale_log2);
      take_probabilities(g, rescale);
    }
  }

  // The same of group g where x stands for the score (x - zero) * unit[i], in row i. found: largest scores of the rows
  // that this thread has.
  __device__ __forceinline__ void weigh_values(int g, const float (&found)[2], const float (&unit)[2], float zero,
                                               float scale_log2) {
    float rescale[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float& max = state[g].max[i];
      const float offset = raise_max(fmaxf(found[i], max), max, &rescale[i], scale_log2), step = unit[i] * scale_log2;
      const float sum = exponentiate_row(scores[g], i, step, fmaf(-zero, step, -offset));
      state[g].sum[i] = fmaf(state[g].sum[i], rescale[i], sum);
    }
    take_probabilities(g, rescale);
  }

  // outputs += P V
  __device__ __forceinline__ void accumulate(uint32_t values) {
#pragma unroll
    for (int group = 0; group < kUnitKeys / 16; ++group) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t v[4];
        load_matrices_transposed(v, value_address(values, group, step));
#pragma unroll
        for (int g = 0; g < kRowGroups; ++g) {
          multiply_add<T>(outputs[g] + 8 * step, weights[g] + 4 * group, v[0], v[1]);
          multiply_add<T>(outputs[g] + 8 * step + 4, weights[g] + 4 * group, v[2], v[3]);
        }
      }
    }
  }

 private:
  // Probabilities of group g, which lie where scores did, to weights; outputs are made ready for them.
  __device__ __forceinline__ void take_probabilities(int g, const float (&rescale)[2]) {
    if (__any_sync(0xFFFFFFFFu, rescale[0] != 1.f || rescale[1] != 1.f)) rescale_rows(outputs[g], rescale);
    pack_probabilities<T>(weights[g], scores[g]);
  }
};

}  // namespace jenga::cuda::sm80
