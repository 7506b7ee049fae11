// Included after a tier's simd.h: 2^x, and rows of any dtype as fp32. Internal linkage throughout, since each tier is
// compiled for other instructions and the linker would otherwise keep one copy for all.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/numeric.h"

namespace jenga::cpu {
namespace {

// 2^x for x <= 0: x = n + f, f in [-1/2, 1/2], polynomial in f (least maximal relative error, fitted), times 2^n.
// Far below the smallest float, and for -infinity, 0; NaN stays NaN. Relative error 2e-9 before rounding to fp32.
inline Vec exp2_precise(Vec x) {
  x = vmax(set1(kLowestExponent), x);
  const Vec n = round(x);
  const Vec f = x - n;
  Vec y = madd(set1(0.000153458079f), f, set1(0.00133999316f));
  y = madd(y, f, set1(0.00961848898f));
  y = madd(y, f, set1(0.0555032878f));
  y = madd(y, f, set1(0.240226469f));
  y = madd(y, f, set1(0.693147206f));
  y = madd(y, f, set1(1.0f));
  return scale2(y, n);
}

// The same to 3e-6, far below the rounding of a bf16 weight.
inline Vec exp2_coarse(Vec x) {
  x = vmax(set1(kLowestExponent), x);
  const Vec n = round(x);
  const Vec f = x - n;
  Vec y = madd(set1(0.00957009713f), f, set1(0.0559178633f));
  y = madd(y, f, set1(0.24024745f));
  y = madd(y, f, set1(0.693121814f));
  y = madd(y, f, set1(0.999999261f));
  return scale2(y, n);
}

template <DataType kType>
inline Vec load_as(const void* row, int64_t d) {
  if constexpr (kType == DataType::kFloat32) return load(static_cast<const float*>(row) + d);
  if constexpr (kType == DataType::kBFloat16) return load_bf16(static_cast<const uint16_t*>(row) + d);
  if constexpr (kType == DataType::kFloat16) return load_fp16(static_cast<const uint16_t*>(row) + d);
}

template <DataType kType>
inline void store_as(void* row, int64_t d, Vec v) {
  if constexpr (kType == DataType::kFloat32) store(static_cast<float*>(row) + d, v);
  if constexpr (kType == DataType::kBFloat16) store_bf16(static_cast<uint16_t*>(row) + d, v);
  if constexpr (kType == DataType::kFloat16) store_fp16(static_cast<uint16_t*>(row) + d, v);
}

template <DataType kType>
inline void load_row_as(float* out, const void* row, int64_t size) {
  int64_t d = 0;
  for (; d + kWidth <= size; d += kWidth) store(out + d, load_as<kType>(row, d));
  for (; d < size; ++d) out[d] = load_element(row, d, kType);
}

template <DataType kType>
inline void store_row_as(void* row, const float* in, int64_t size) {
  int64_t d = 0;
  for (; d + kWidth <= size; d += kWidth) store_as<kType>(row, d, load(in + d));
  for (; d < size; ++d) store_element(row, d, kType, in[d]);
}

inline void load_row(float* out, const void* row, DataType type, int64_t size) {
  switch (type) {
    case DataType::kFloat32:
      return load_row_as<DataType::kFloat32>(out, row, size);
    case DataType::kBFloat16:
      return load_row_as<DataType::kBFloat16>(out, row, size);
    case DataType::kFloat16:
      return load_row_as<DataType::kFloat16>(out, row, size);
    default:  // no tier is given 8 bits
      return;
  }
}

inline void store_row(void* row, const float* in, DataType type, int64_t size) {
  switch (type) {
    case DataType::kFloat32:
      return store_row_as<DataType::kFloat32>(row, in, size);
    case DataType::kBFloat16:
      return store_row_as<DataType::kBFloat16>(row, in, size);
    case DataType::kFloat16:
      return store_row_as<DataType::kFloat16>(row, in, size);
    default:
      return;
  }
}

inline const void* at(const void* data, int64_t element, DataType type) {
  return static_cast<const char*>(data) + element * element_size(type);
}
inline void* at(void* data, int64_t element, DataType type) {
  return static_cast<char*>(data) + element * element_size(type);
}

// fp32 arithmetic on any dtype: a word is one fp32 number.
struct FloatMath {
  static constexpr int64_t kPerWord = 1;
  static constexpr int64_t kScoreChain = 32;  // words
  static Vec broadcast(const float* word) { return set1(*word); }
  static Vec dot(Vec sum, Vec a, Vec b) { return madd(a, b, sum); }
  static Vec exp2(Vec x) { return exp2_precise(x); }

  static void pack_query(float* words, const void* row, DataType type, int64_t size) {
    load_row(words, row, type, size);
  }
  // Two rows of V as kPerWord word rows; a null row is zeros.
  static void pack_values(float* words, int64_t stride, const void* const rows[2], DataType type, int64_t size) {
    for (int i = 0; i < 2; ++i) {
      std::memset(words + i * stride, 0, stride * sizeof(float));
      if (rows[i]) load_row(words + i * stride, rows[i], type, size);
    }
  }
};

// The same on bf16 and fp16 rows: no more exact than rounding them leaves room for.
struct HalfMath : FloatMath {
  static constexpr int64_t kScoreChain = kMaxHeadDim;  // one chain
  static Vec exp2(Vec x) { return exp2_coarse(x); }
};

}  // namespace
}  // namespace jenga::cpu
