// Online softmax over the score tile of one warp (fragments of mma.m16n8k16): a thread holds rows lane / 4 and
// lane / 4 + 8 of every group of 16. Scores stay in natural units; probabilities are exp2((s - max) * scale_log2).
#pragma once

#include <cmath>

#include "kernels/cuda/common/row_state.h"
#include "kernels/cuda/sm80/tile.h"

namespace jenga::cuda::sm80 {

inline constexpr int kScoreTiles = kUnitKeys / 8;

// bias: one value per key in units of the raw scores.
__device__ __forceinline__ void add_bias(float (&scores)[kScoreTiles][4], const float* bias, int lane) {
#pragma unroll
  for (int n = 0; n < kScoreTiles; ++n) {
    const float2 pair = *reinterpret_cast<const float2*>(bias + 8 * n + lane % 4 * 2);
    scores[n][0] += pair.x;
    scores[n][1] += pair.y;
    scores[n][2] += pair.x;
    scores[n][3] += pair.y;
  }
}

// Scores to probabilities, in place. rescale[i] is what earlier outputs and sums of row i must be multiplied by.
__device__ __forceinline__ void update_softmax(float (&scores)[kScoreTiles][4], RowState& state, float (&rescale)[2],
                                               float scale_log2) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float row_max = state.max[i];
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n) row_max = fmaxf(row_max, fmaxf(scores[n][2 * i], scores[n][2 * i + 1]));
    row_max = quad_max(row_max);
    // A row that has met only -inf so far keeps max = -inf; 0 in its place gives probabilities 0 instead of NaN.
    const float offset = row_max == -INFINITY ? 0.f : row_max * scale_log2;
    rescale[i] = fast_exp2(fmaf(state.max[i], scale_log2, -offset));
    state.max[i] = row_max;
    float sum = 0.f;
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& value = scores[n][2 * i + e];
        value = fast_exp2(fmaf(value, scale_log2, -offset));
        sum += value;
      }
    }
    state.sum[i] = fmaf(state.sum[i], rescale[i], sum);
  }
}

}  // namespace jenga::cuda::sm80
