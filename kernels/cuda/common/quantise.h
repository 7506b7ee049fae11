// Rows to int8 codes, values to e4m3 (rules: kernels/params.h).
#pragma once

#include "kernels/cuda/common/element.h"
#include "kernels/params.h"

namespace jenga::cuda {

// Nearest even, of a value that is at most 127 but for rounding.
__device__ __forceinline__ int8_t int8_code(float value) {
  return static_cast<int8_t>(__float2int_rn(fminf(fmaxf(value, -kInt8Max), kInt8Max)));
}

__device__ __forceinline__ uint32_t int8_codes(float a, float b, float c, float d) {
  const auto byte = [](float value) { return static_cast<uint32_t>(static_cast<uint8_t>(int8_code(value))); };
  return byte(a) | byte(b) << 8 | byte(c) << 16 | byte(d) << 24;
}

// Eight channels; inverse: of the row's scale.
__device__ __forceinline__ uint2 int8_codes(const float (&values)[kVectorElements], float inverse) {
  return make_uint2(int8_codes(values[0] * inverse, values[1] * inverse, values[2] * inverse, values[3] * inverse),
                    int8_codes(values[4] * inverse, values[5] * inverse, values[6] * inverse, values[7] * inverse));
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

// Nearest even, clamped to 448; not of a NaN. On every architecture: those before 8.9 have no instruction for it.
__device__ __forceinline__ uint32_t float8_code(float value) {
  const float magnitude = fminf(fabsf(value), kFloat8Max);
  const uint32_t sign = value < 0.f ? 0x80u : 0u;
  const uint32_t bits = static_cast<uint32_t>(__float_as_int(magnitude));
  // Below 2^-6: adding 2^14 leaves the subnormal's bits, rounded, at the bottom.
  if (magnitude < 0x1p-6f) return sign | (static_cast<uint32_t>(__float_as_int(magnitude + 0x1p14f)) & 0xFFu);
  return sign | ((bits - 0x3C000000u + 0x7FFFFu + ((bits >> 20) & 1u)) >> 20);
}

}  // namespace jenga::cuda
