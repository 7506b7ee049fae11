// Four fp32 lanes through the compiler's vector extension: any architecture, no intrinsics.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/numeric.h"

namespace jenga::cpu {
namespace {

using Vec = float __attribute__((vector_size(16)));
using VecInt = int32_t __attribute__((vector_size(16)));
constexpr int kWidth = 4;
constexpr int kRows = 4;       // query rows of a micro-kernel
constexpr int kScoreVecs = 2;  // its vectors of keys
constexpr int kValueVecs = 2;  // its vectors of channels

inline Vec set1(float x) { return Vec{x, x, x, x}; }
inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
// There is no portable store past the caches.
inline void stream(float* p, Vec v) { store(p, v); }
inline void fence() {}
inline Vec madd(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec vmax(Vec a, Vec b) { return a > b ? a : b; }  // b where a or b is NaN
inline Vec vabs(Vec a) { return vmax(a, -a); }
// Round half to even for |x| < 2^22.
inline Vec round(Vec x) {
  const Vec magic = set1(0x1.8p23f);
  return (x + magic) - magic;
}
// x * 2^n for whole n in [-127, 127]; n = -127 gives 0.
inline Vec scale2(Vec x, Vec n) { return x * reinterpret_cast<Vec>((__builtin_convertvector(n, VecInt) + 127) << 23); }
constexpr float kLowestExponent = -127.0f;
inline float top(Vec v) {
  const float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
  return a > b ? a : b;
}
inline float sum(Vec v) { return (v[0] + v[1]) + (v[2] + v[3]); }

inline Vec load_bf16(const uint16_t* p) {
  return Vec{bf16_to_float(p[0]), bf16_to_float(p[1]), bf16_to_float(p[2]), bf16_to_float(p[3])};
}
inline Vec load_fp16(const uint16_t* p) {
  return Vec{fp16_to_float(p[0]), fp16_to_float(p[1]), fp16_to_float(p[2]), fp16_to_float(p[3])};
}
inline void store_bf16(uint16_t* p, Vec v) {
  for (int i = 0; i < kWidth; ++i) p[i] = float_to_bf16(v[i]);
}
inline void store_fp16(uint16_t* p, Vec v) {
  for (int i = 0; i < kWidth; ++i) p[i] = float_to_fp16(v[i]);
}

}  // namespace
}  // namespace jenga::cpu
