// Online softmax over the score tile of one warpgroup (fragment layout of wgmma.h): a thread holds two rows.
// Scores stay in natural units before softmax_scale; probabilities are exp2((s - max) * scale_log2).
#pragma once

#include <cmath>

#include "kernels/cuda/common/row_state.h"

namespace jenga::cuda::sm90 {

// bias: one value per key in units of the raw scores, -inf for a key that is not attended.
__device__ __forceinline__ void add_bias(float (&scores)[64], const float* bias, int lane) {
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    const float2 pair = *reinterpret_cast<const float2*>(bias + 8 * j + 2 * (lane % 4));
    scores[4 * j] += pair.x;
    scores[4 * j + 1] += pair.y;
    scores[4 * j + 2] += pair.x;
    scores[4 * j + 3] += pair.y;
  }
}

// Scores to probabilities, in place. rescale[i] is what earlier outputs and sums of row i must be multiplied by.
__device__ __forceinline__ void update_softmax(float (&scores)[64], RowState& state, float (&rescale)[2],
                                               float scale_log2) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float row_max = state.max[i];
#pragma unroll
    for (int j = 0; j < 16; ++j) row_max = fmaxf(row_max, fmaxf(scores[4 * j + 2 * i], scores[4 * j + 2 * i + 1]));
    row_max = quad_max(row_max);
    // A row that has met only -inf so far keeps max = -inf; 0 in its place gives probabilities 0 instead of NaN.
    const float offset = row_max == -INFINITY ? 0.f : row_max * scale_log2;
    rescale[i] = fast_exp2(fmaf(state.max[i], scale_log2, -offset));
    state.max[i] = row_max;
    float sum = 0.f;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& value = scores[4 * j + 2 * i + e];
        value = fast_exp2(fmaf(value, scale_log2, -offset));
        sum += value;
      }
    }
    state.sum[i] = fmaf(state.sum[i], rescale[i], sum);
  }
}

template <int kCount>
__device__ __forceinline__ void rescale_rows(float (&outputs)[kCount], const float (&rescale)[2]) {
#pragma unroll
  for (int j = 0; j < kCount / 4; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) outputs[4 * j + e] *= rescale[e / 2];
  }
}

}  // namespace jenga::cuda::sm90
