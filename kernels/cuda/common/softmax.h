// Online softmax over what one thread holds of the scores, and its running state.
//
// Scores and outputs lie as the accumulators of mma.m16n8k16 and wgmma do: values[4 j + 2 i + e] is of the thread's row
// i (rows lane / 4 and lane / 4 + 8 of 16), column 8 j + 2 (lane % 4) + e. Packed in pairs, the scores of 16 keys are
// the first operand of the next product in place. Scores stay in natural units before softmax_scale; probabilities are
// exp2((s - max) * scale_log2).
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/cuda/common/element.h"

namespace jenga::cuda {

inline constexpr float kLog2E = 1.44269504088896340736f;

struct RowState {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.f, 0.f};  // this thread's columns only; reduced over the quad at the end
};

__device__ __forceinline__ float fast_exp2(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else  // the host, in tests
  return std::exp2(x);
#endif
}

__device__ __forceinline__ int32_t largest(int32_t a, int32_t b, int32_t c) {
#ifdef __CUDACC__
  return __vimax3_s32(a, b, c);
#else  // the host, in tests
  return std::max({a, b, c});
#endif
}

// The larger one of a + b and c.
__device__ __forceinline__ int32_t larger_of_sum(int32_t a, int32_t b, int32_t c) {
#ifdef __CUDACC__
  return __viaddmax_s32(a, b, c);
#else  // the host, in tests
  return std::max(a + b, c);
#endif
}

// Over the four threads that share a row.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xFFFFFFFFu, x, 1);
  return x + __shfl_xor_sync(0xFFFFFFFFu, x, 2);
}

// bias: one value per key in units of the raw scores, -inf for a key that is not attended.
template <int kCount>
__device__ __forceinline__ void add_bias(float (&scores)[kCount], const float* bias, int lane) {
#pragma unroll
  for (int j = 0; j < kCount / 4; ++j) {
    const float2 pair = *reinterpret_cast<const float2*>(bias + 8 * j + 2 * (lane % 4));
    scores[4 * j] += pair.x;
    scores[4 * j + 1] += pair.y;
    scores[4 * j + 2] += pair.x;
    scores[4 * j + 3] += pair.y;
  }
}

// Takes the largest score of a row in max; found: the largest of this thread and max. Returns what is to be subtracted
// from scaled scores; *rescale is what earlier outputs and sums must be multiplied by.
__device__ __forceinline__ float raise_max(float found, float& max, float* rescale, float scale_log2) {
  const float row_max = quad_max(found);
  // A row that has met only -inf so far keeps max = -inf; 0 in its place gives probabilities 0 instead of NaN.
  const float offset = row_max == -INFINITY ? 0.f : row_max * scale_log2;
  *rescale = fast_exp2(fmaf(max, scale_log2, -offset));
  max = row_max;
  return offset;
}

// The largest score of row i that this thread has, and max.
template <int kCount>
__device__ __forceinline__ float largest_score(const float (&scores)[kCount], int i, float max) {
#pragma unroll
  for (int j = 0; j < kCount / 4; ++j) max = fmaxf(max, fmaxf(scores[4 * j + 2 * i], scores[4 * j + 2 * i + 1]));
  return max;
}

// Row i of what weights are made of, x, to exp2(x * step + shift), in place; returns the sum.
template <int kCount>
__device__ __forceinline__ float exponentiate_row(float (&values)[kCount], int i, float step, float shift) {
  float sum = 0.f;
#pragma unroll
  for (int j = 0; j < kCount / 4; ++j) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      float& value = values[4 * j + 2 * i + e];
      value = fast_exp2(fmaf(value, step, shift));
      sum += value;
    }
  }
  return sum;
}

// Scores to probabilities, in place. rescale[i] is what earlier outputs and sums of row i must be multiplied by.
template <int kCount>
__device__ __forceinline__ void update_softmax(float (&scores)[kCount], RowState& state, float (&rescale)[2],
                                               float scale_log2) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float& max = state.max[i];
    const float offset = raise_max(largest_score(scores, i, max), max, &rescale[i], scale_log2);
    state.sum[i] = fmaf(state.sum[i], rescale[i], exponentiate_row(scores, i, scale_log2, -offset));
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

template <class T, int kCount>
__device__ __forceinline__ void pack_probabilities(uint32_t (&packed)[kCount / 2], const float (&scores)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) packed[i] = pack_pair<T>(scores[2 * i], scores[2 * i + 1]);
}

}  // namespace jenga::cuda
