// Sixteen fp32 lanes: AVX-512 F, BW, DQ and VL.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace jenga::cpu {
namespace {

using Vec = __m512;
constexpr int kWidth = 16;
constexpr int kRows = 4;  // 16 accumulators hide the latency; more rows would only press on the registers
constexpr int kScoreVecs = 4;
constexpr int kValueVecs = 4;

inline Vec set1(float x) { return _mm512_set1_ps(x); }
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
// Stores past the caches, p aligned to a vector; fence() puts them before what is stored after it.
inline void stream(float* p, Vec v) { _mm512_stream_ps(p, v); }
inline void fence() { _mm_sfence(); }
inline Vec madd(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec vmax(Vec a, Vec b) { return _mm512_max_ps(a, b); }  // b where a or b is NaN
inline Vec vabs(Vec a) { return _mm512_abs_ps(a); }
inline Vec round(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// x * 2^n for whole n; below the smallest subnormal it is 0.
inline Vec scale2(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }
constexpr float kLowestExponent = -200.0f;
inline float top(Vec v) { return _mm512_reduce_max_ps(v); }
inline float sum(Vec v) { return _mm512_reduce_add_ps(v); }

inline Vec load_bf16(const uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline Vec load_fp16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
// Round to nearest even; a NaN stays a quiet NaN.
inline void store_bf16(uint16_t* p, Vec v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i chosen = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), rounded, quiet);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16)));
}
inline void store_fp16(uint16_t* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace
}  // namespace jenga::cpu
