// bf16 and fp16 as bit patterns, converted on the host. Static, so that a file compiled for one instruction set never
// lends its copy to another.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/params.h"

namespace jenga {

static inline float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// Round to nearest even; a NaN stays a (quiet) NaN.
static inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float fp16_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // 2^112 moves the exponent bias from 15 to 127 and makes normals out of subnormals on the way.
  const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
}

// Round to nearest even, also into subnormals; beyond 65504 + half a step: infinity.
static inline uint16_t float_to_fp16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 leaves the subnormal's bits, rounded, at the bottom
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13));
}

// e4m3 without infinities: 1 sign, 4 exponent (bias 7), 3 mantissa bits. Rounds to nearest even, clamps to +-448; a NaN
// stays one.
static inline uint8_t float_to_fp8(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffffu;
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  if (magnitude > 0x7f800000u) return sign | 0x7fu;
  if (magnitude >= 0x43e00000u) return sign | 0x7eu;  // from 448 on
  if (magnitude < 0x3c800000u) {  // below 2^-6: adding 2^14 leaves the subnormal's bits, rounded, at the bottom
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) & 0xffu));
  }
  return static_cast<uint8_t>(sign | ((magnitude - 0x3c000000u + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20));
}

static inline float fp8_to_float(uint8_t code) {
  const int exponent = (code >> 3) & 15, mantissa = code & 7;
  if (exponent == 15 && mantissa == 7) return std::bit_cast<float>(0x7fc00000u);
  const float scale = std::bit_cast<float>(static_cast<uint32_t>(exponent == 0 ? 127 - 9 : exponent + 127 - 10) << 23);
  const float value = static_cast<float>(exponent == 0 ? mantissa : 8 + mantissa) * scale;
  return code & 0x80 ? -value : value;
}

static inline int64_t element_size(DataType type) {
  switch (type) {
    case DataType::kFloat32:
      return 4;
    case DataType::kInt8:
    case DataType::kFloat8:
      return 1;
    default:
      return 2;
  }
}

static inline float load_element(const void* data, int64_t index, DataType type) {
  switch (type) {
    case DataType::kFloat32:
      return static_cast<const float*>(data)[index];
    case DataType::kBFloat16:
      return bf16_to_float(static_cast<const uint16_t*>(data)[index]);
    case DataType::kFloat16:
      return fp16_to_float(static_cast<const uint16_t*>(data)[index]);
    case DataType::kInt8:
      return static_cast<const int8_t*>(data)[index];
    case DataType::kFloat8:
      return fp8_to_float(static_cast<const uint8_t*>(data)[index]);
  }
  return 0;
}

// int8: rounds to nearest even, clamps to +-127.
static inline int8_t float_to_int8(float value) {
  const float rounded = __builtin_nearbyintf(value);
  return static_cast<int8_t>(rounded < -127.f ? -127.f : rounded > 127.f ? 127.f : rounded);
}

static inline void store_element(void* data, int64_t index, DataType type, float value) {
  switch (type) {
    case DataType::kFloat32:
      static_cast<float*>(data)[index] = value;
      break;
    case DataType::kBFloat16:
      static_cast<uint16_t*>(data)[index] = float_to_bf16(value);
      break;
    case DataType::kFloat16:
      static_cast<uint16_t*>(data)[index] = float_to_fp16(value);
      break;
    case DataType::kInt8:
      static_cast<int8_t*>(data)[index] = float_to_int8(value);
      break;
    case DataType::kFloat8:
      static_cast<uint8_t*>(data)[index] = float_to_fp8(value);
      break;
  }
}

// Channel d of a residual row; row = (batch * S + token) * H + head.
static inline float load_residual(const void* residual, const float* scale, ResidualType type, int64_t row,
                                  int64_t head_dim, int64_t d) {
  const int64_t index = row * head_dim + d;
  switch (type) {
    case ResidualType::kNone:
      return 0;
    case ResidualType::kFloat32:
      return load_element(residual, index, DataType::kFloat32);
    case ResidualType::kBFloat16:
      return load_element(residual, index, DataType::kBFloat16);
    case ResidualType::kFloat16:
      return load_element(residual, index, DataType::kFloat16);
    case ResidualType::kInt8:
      return static_cast<const int8_t*>(residual)[index] * scale[row];
    case ResidualType::kInt4: {
      const uint8_t byte = static_cast<const uint8_t*>(residual)[index / 2];
      const int nibble = d % 2 ? byte >> 4 : byte & 15;
      return static_cast<float>((nibble ^ 8) - 8) * scale[row];
    }
  }
  return 0;
}

}  // namespace jenga
