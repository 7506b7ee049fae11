// Weights as e4m3 codes, shares of 448 of the largest of their row, and what their products with e4m3 values make
// (rule: kernels/params.h; layout of scores and outputs: softmax.h).
#pragma once

#include "kernels/cuda/common/softmax.h"
#include "kernels/params.h"
#ifndef __CUDACC__
#include "kernels/numeric.h"
#endif

namespace jenga::cuda {

inline constexpr float kShare = 1.f / kFloat8Max;            // weights are shares of 448
inline constexpr float kLog2Float8Max = 8.807354922057604f;  // log2(448)
static_assert(kFloat8Max == 448.f);

// Four weights, at most 448 but for rounding, as e4m3 codes: the first in the lowest byte. From 8.9 on.
__device__ __forceinline__ uint32_t pack_weights(float a, float b, float c, float d) {
#ifdef __CUDACC__
  uint32_t packed;
  asm("{\n.reg .b16 low, high;\n"
      "cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
      "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n"
      "mov.b32 %0, {low, high};\n}\n"
      : "=r"(packed)
      : "f"(a), "f"(b), "f"(c), "f"(d));
  return packed;
#else  // the host, in tests
  return float_to_fp8(a) | float_to_fp8(b) << 8 | float_to_fp8(c) << 16 | static_cast<uint32_t>(float_to_fp8(d)) << 24;
#endif
}

// Scores of both rows to weights. max: the rows', into which their largest are taken. Word 4 s + 2 h + i is of row i
// and of keys 32 s + 16 h + (0 .. 15), the four that this thread holds, as kernels/value_blocks.h has them: the first
// operand of a product over 32 keys in place. rescale is what earlier outputs and sums must be multiplied by.
template <int kCount>
__device__ __forceinline__ void weigh_rows(uint32_t (&weights)[kCount / 4], const float (&scores)[kCount],
                                           float (&max)[2], float (&rescale)[2], const float (&scale_log2)[2]) {
  float offset[2];
#pragma unroll
  for (int i = 0; i < 2; ++i)
    offset[i] = update_max(scores, max[i], i, &rescale[i], scale_log2[i]) - kLog2Float8Max;  // the largest weight: 448
#pragma unroll
  for (int j = 0; j < kCount / 4; j += 2) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const auto weight = [&](int of, int e) {
        return fast_exp2(fmaf(scores[4 * of + 2 * i + e], scale_log2[i], -offset[i]));
      };
      weights[j + i] = pack_weights(weight(j, 0), weight(j, 1), weight(j + 1, 0), weight(j + 1, 1));
    }
  }
}

// rows: outputs in units of the values. sums: of each row's weights, whole in every thread of a quad, as shares of 1.
// scale, center: of the values of this head.
template <int kCount>
__device__ __forceinline__ void to_value_units(float (&rows)[kCount], const float* outputs, const float (&sums)[2],
                                               const float* scale, const float* center, int lane) {
#pragma unroll
  for (int j = 0; j < kCount / 4; ++j) {
    const int channel = 8 * j + 2 * (lane % 4);
    const float2 of_value = __ldg(reinterpret_cast<const float2*>(scale + channel));
    const float2 of_center = __ldg(reinterpret_cast<const float2*>(center + channel));
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      rows[4 * j + 2 * i] = fmaf(outputs[4 * j + 2 * i], of_value.x * kShare, of_center.x * sums[i]);
      rows[4 * j + 2 * i + 1] = fmaf(outputs[4 * j + 2 * i + 1], of_value.y * kShare, of_center.y * sums[i]);
    }
  }
}

}  // namespace jenga::cuda
