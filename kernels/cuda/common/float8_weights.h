// Weights as e4m3 codes, shares of 448 of the largest of their row, and what their products with e4m3 values make
// (rule: kernels/params.h; layout of scores and outputs: softmax.h).
//
// An e4m3 code is nearly a logarithm: eight codes to a power of two, straight lines between. So a weight's code is its
// scaled score, rounded, and neither an exponential nor a conversion is needed for it.
#pragma once

#include "kernels/cuda/common/softmax.h"
#include "kernels/params.h"

namespace jenga::cuda {

inline constexpr float kShare = 1.f / kFloat8Max;            // weights are shares of 448
inline constexpr float kLargestCode = 126.f;         // of 448
inline constexpr float kCodesPerPower = 8.f;         // of two
static_assert(kFloat8Max == 448.f);

// a b + c, rounded towards -inf.
__device__ __forceinline__ float multiply_add_down(float a, float b, float c) {
#ifdef __CUDACC__
  return __fmaf_rd(a, b, c);
#else  // the host, in tests
  const double exact = static_cast<double>(a) * b + c;
  const float nearest = static_cast<float>(exact);
  return nearest > exact ? std::nextafter(nearest, -INFINITY) : nearest;
#endif
}

// Four codes, rounded, what is negative to 0: the first in the lowest byte. Given in units of kCodeUnit, the smallest
// number of fp16, so that the bits of the nearest fp16 are the code.
inline constexpr float kCodeUnit = 0x1p-24f;
__device__ __forceinline__ uint32_t pack_codes(float a, float b, float c, float d) {
#ifdef __CUDACC__
  uint32_t packed;
  asm("{\n.reg .b32 low, high;\n"
      "cvt.rn.relu.f16x2.f32 low, %2, %1;\n"
      "cvt.rn.relu.f16x2.f32 high, %4, %3;\n"
      "prmt.b32 %0, low, high, 0x6420;\n}\n"
      : "=r"(packed)
      : "f"(a), "f"(b), "f"(c), "f"(d));
  return packed;
#else  // the host, in tests
  const auto code = [](float x) { return static_cast<uint32_t>(std::nearbyint(std::fmax(x / kCodeUnit, 0.f))); };
  return code(a) | code(b) << 8 | code(c) << 16 | code(d) << 24;
#endif
}

// Of a score x to its weight's code, in units of kCodeUnit: fmaf(x, step, shift).
struct WeightCodes {
  float step, shift;

  // offset: scaled score of the largest weight, as raise_max returns it. A code above 126 would be no number, so it is
  // taken a little larger than what rounding may have cost it, which shows in scores beyond all reason alone.
  __device__ WeightCodes(float scale_log2, float offset)
      : step(scale_log2 * (kCodesPerPower * kCodeUnit)),
        shift(fmaf(fmaf(fabsf(offset), 0x1p-22f, offset), -kCodesPerPower * kCodeUnit, kLargestCode * kCodeUnit)) {}

  // Of what stands for a score as x - zero does. Rounded down, for the same reason.
  __device__ WeightCodes(float scale_log2, float offset, float zero) : WeightCodes(scale_log2, offset) {
    shift = multiply_add_down(-zero, step, shift);
  }
};

// Row i of what stands for scores to codes, as weigh_rows places them.
template <int kCount>
__device__ __forceinline__ void pack_row(uint32_t (&weights)[kCount / 4], const float (&scores)[kCount], int i,
                                         const WeightCodes& codes) {
  const auto code = [&](int j, int e) { return fmaf(scores[4 * j + 2 * i + e], codes.step, codes.shift); };
#pragma unroll
  for (int j = 0; j < kCount / 4; j += 2)
    weights[j + i] = pack_codes(code(j, 0), code(j, 1), code(j + 1, 0), code(j + 1, 1));
}

// Scores of both rows to weights. max: the rows', into which their largest are taken. Word 4 s + 2 h + i is of row i
// and of keys 32 s + 16 h + (0 .. 15), the four that this thread holds, as kernels/value_blocks.h has them: the first
// operand of a product over 32 keys in place. rescale is what earlier outputs and sums must be multiplied by.
template <int kCount>
__device__ __forceinline__ void weigh_rows(uint32_t (&weights)[kCount / 4], const float (&scores)[kCount],
                                           float (&max)[2], float (&rescale)[2], const float (&scale_log2)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const WeightCodes codes(scale_log2[i], update_max(scores, max[i], i, &rescale[i], scale_log2[i]));
    pack_row(weights, scores, i, codes);
  }
}

// The same of scores that are sums of products of codes, by themselves: those of 64 keys become scores by one scale.
template <int kCount>
__device__ __forceinline__ void weigh_sums(uint32_t (&weights)[kCount / 4], const int32_t (&sums)[kCount],
                                           const float (&key_scale)[kCount / 32], float (&max)[2], float (&rescale)[2],
                                           const float (&scale_log2)[2]) {
  constexpr int kColumns = kKeyScaleRows / 8;  // pairs of a row's sums that share a scale
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float found = max[i];
#pragma unroll
    for (int first = 0; first < kCount / 4; first += kColumns) {
      int32_t top = sums[4 * first + 2 * i];
#pragma unroll
      for (int j = first; j < first + kColumns; ++j)
        top = largest(top, sums[4 * j + 2 * i], sums[4 * j + 2 * i + 1]);
      found = fmaxf(found, static_cast<float>(top) * key_scale[first / kColumns]);
    }
    const WeightCodes codes(scale_log2[i], raise_max(found, max[i], &rescale[i], scale_log2[i]));
#pragma unroll
    for (int j = 0; j < kCount / 4; j += 2) {
      const float step = codes.step * key_scale[j / kColumns];
      const auto code = [&](int of, int e) {
        return fmaf(static_cast<float>(sums[4 * of + 2 * i + e]), step, codes.shift);
      };
      weights[j + i] = pack_codes(code(j, 0), code(j, 1), code(j + 1, 0), code(j + 1, 1));
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
    const float2 of_value = *reinterpret_cast<const float2*>(scale + channel);
    const float2 of_center = *reinterpret_cast<const float2*>(center + channel);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      rows[4 * j + 2 * i] = fmaf(outputs[4 * j + 2 * i], of_value.x * kShare, of_center.x * sums[i]);
      rows[4 * j + 2 * i + 1] = fmaf(outputs[4 * j + 2 * i + 1], of_value.y * kShare, of_center.y * sums[i]);
    }
  }
}

}  // namespace jenga::cuda
