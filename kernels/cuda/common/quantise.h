// Rows to int8 codes, values to e4m3 (rules: kernels/params.h).
#pragma once

#include "kernels/cuda/common/element.h"
#include "kernels/params.h"

namespace jenga::cuda {

// What codes are multiplied out of; 0 of a scale of 0, by which all codes are 0.
__device__ __forceinline__ float inverse_of(float scale) { return scale > 0.f ? 1.f / scale : 0.f; }

// The scale of keys whose largest magnitude, times H, is top, and what their codes are multiplied out of. size:
// rotation_size of their channels.
struct RotatedScale {
  float scale, inverse;

  __device__ __forceinline__ RotatedScale(float top, int size) {
    const float part = 1.f / static_cast<float>(size);
    scale = top * part / kInt8Max;
    inverse = inverse_of(scale) * part;
  }
};

// The nearest even code of value = x * inverse, |x| <= top, scale = top / 127, inverse = 1 / scale, in the lowest byte
// of a word. Three roundings leave value below 127.0001, so that no code needs a clamp. Added to 1.5 * 2^23 it is
// rounded to a whole number at the bottom of the sum's bits, in two's complement where it is negative. __fadd_rn: the
// product that value is keeps a rounding of its own.
__device__ __forceinline__ uint32_t int8_code_word(float value) {
  return static_cast<uint32_t>(__float_as_int(__fadd_rn(value, 0x1.8p23f)));
}

// The lowest bytes of four words.
__device__ __forceinline__ uint32_t lowest_bytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return __byte_perm(__byte_perm(a, b, 0x0040), __byte_perm(c, d, 0x0040), 0x5410);
}

__device__ __forceinline__ uint32_t int8_codes(float a, float b, float c, float d) {
  return lowest_bytes(int8_code_word(a), int8_code_word(b), int8_code_word(c), int8_code_word(d));
}

// Eight channels; inverse: of the row's scale.
__device__ __forceinline__ uint2 int8_codes(const float (&values)[kVectorElements], float inverse) {
  return make_uint2(int8_codes(values[0] * inverse, values[1] * inverse, values[2] * inverse, values[3] * inverse),
                    int8_codes(values[4] * inverse, values[5] * inverse, values[6] * inverse, values[7] * inverse));
}

// The same with one rounding in the place of two, for half the instructions: of queries, whose codes no other
// implementation must find.
__device__ __forceinline__ uint2 int8_codes_at_once(const float (&values)[kVectorElements], float inverse) {
  const auto word = [&](int i) { return static_cast<uint32_t>(__float_as_int(fmaf(values[i], inverse, 0x1.8p23f))); };
  return make_uint2(lowest_bytes(word(0), word(1), word(2), word(3)), lowest_bytes(word(4), word(5), word(6), word(7)));
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

template <int kRows, int kNumber>
__device__ __forceinline__ float largest_magnitude(const float (&rows)[kRows][kNumber]) {
  float top = 0.f;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
#pragma unroll
    for (int i = 0; i < kNumber; ++i) top = fmaxf(top, fabsf(rows[row][i]));
  }
  return top;
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
