// Weights as e4m3 codes: shares of 448 of the largest of their row (rule: kernels/params.h).
#pragma once

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

}  // namespace jenga::cuda
