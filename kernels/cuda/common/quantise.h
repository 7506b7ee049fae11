// Rows to int8 codes, values to e4m3 (rules: kernels/params.h).
#pragma once

#include "kernels/cuda/common/element.h"
#include "kernels/params.h"

namespace jenga::cuda {

// What codes are multiplied out of; 0 of a scale of 0, by which all codes are 0.
__device__ __forceinline__ float inverse_of(float scale) { return scale > 0.f ? 1.f / scale : 0.f; }

// The nearest even code of value = x * inverse, |x| <= top, scale = top / 127, inverse = 1 / scale, in the lowest byte
// of a word. Three roundings leave value below 127.0001, so that no code needs a clamp. Added to 1.5 * 2^23 it is
// rounded to a whole number at the bottom of the sum's bits, in two's complement where it is negative. __fadd_rn: the
// product that value is keeps a rounding of its own.
__device__ __forceinline__ uint32_t int8_code_word(float value) {
  return static_cast<uint32_t>(__float_as_int(__fadd_rn(value, 0x1.8p23f)));
}

__device__ __forceinline__ uint32_t int8_codes(float a, float b, float c, float d) {
  const uint32_t low = __byte_perm(int8_code_word(a), int8_code_word(b), 0x0040);
  const uint32_t high = __byte_perm(int8_code_word(c), int8_code_word(d), 0x0040);
  return __byte_perm(low, high, 0x5410);
}

// Eight channels; inverse: of the row's scale.
__device__ __forceinline__ uint2 int8_codes(const float (&values)[kVectorElements], float inverse) {
  return make_uint2(int8_codes(values[0] * inverse, values[1] * inverse, values[2] * inverse, values[3] * inverse),
                    int8_codes(values[4] * inverse, values[5] * inverse, values[6] * inverse, values[7] * inverse));
}

// Eight channels' centers or scales.
__device__ __forceinline__ void load_row(const float* source, float (&values)[kVectorElements]) {
#pragma unroll
  for (int i = 0; i < kVectorElements; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(source + i);
    values[i] = four.x, values[i + 1] = four.y, values[i + 2] = four.z, values[i + 3] = four.w;
  }
}

// Over kLanes neighbouring lanes.
template <int kLanes>
__device__ __forceinline__ float largest_of_lanes(float value) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFu, value, step));
  return value;
}

// The largest magnitude of a row that kLanes neighbouring lanes share.
template <int kLanes>
__device__ __forceinline__ float largest_of_row(const float (&values)[kVectorElements]) {
  float top = 0.f;
#pragma unroll
  for (float value : values) top = fmaxf(top, fabsf(value));
  return largest_of_lanes<kLanes>(top);
}

// Nearest even, clamped to 448; not of a NaN. On every architecture: those before 8.9 have no instruction for it. (The
// instruction differs in one thing: it keeps the sign of -0.)
__device__ __forceinline__ uint32_t float8_code(float value) {
  const float magnitude = fminf(fabsf(value), kFloat8Max);
  const uint32_t sign = value < 0.f ? 0x80u : 0u;
  const uint32_t bits = static_cast<uint32_t>(__float_as_int(magnitude));
  // Below 2^-6: adding 2^14 leaves the subnormal's bits, rounded, at the bottom.
  if (magnitude < 0x1p-6f) return sign | (static_cast<uint32_t>(__float_as_int(magnitude + 0x1p14f)) & 0xFFu);
  return sign | ((bits - 0x3C000000u + 0x7FFFFu + ((bits >> 20) & 1u)) >> 20);
}

// Two codes, the first in the lower byte.
__device__ __forceinline__ uint32_t float8_codes(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint16_t codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
  return codes;
#else  // older architectures, and the host in tests
  return float8_code(low) | float8_code(high) << 8;
#endif
}

}  // namespace jenga::cuda
