// The native bf16 dot product: a word is a pair of bf16, multiplied exactly and summed in fp32 (vdpbf16ps). Subnormal
// numbers count as zero in it. Include after the avx512 simd.h and vector_math.h.
#pragma once

#include <immintrin.h>

#include "kernels/params.h"

namespace jenga::cpu {
namespace {

struct DotMath {
  static constexpr int64_t kPerWord = 2;
  static constexpr int64_t kScoreChain = kMaxHeadDim / kPerWord;  // one: the weights round to bf16 anyway
  static Vec broadcast(const float* word) { return set1(*word); }
  static Vec dot(Vec sum, Vec a, Vec b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
  }
  static Vec exp2(Vec x) { return exp2_coarse(x); }

  static void pack_query(float* words, const void* row, DataType, int64_t size) {
    std::memcpy(words, row, size * sizeof(uint16_t));
  }
  static void pack_weights(float* words, const float* weights, int64_t size) {
    for (int64_t i = 0; i < size; i += 2 * kWidth) {
      const __m512bh pair = _mm512_cvtne2ps_pbh(load(weights + i + kWidth), load(weights + i));
      _mm512_storeu_si512(words + i / 2, (__m512i)pair);
    }
  }
  // Two rows of V become one row of pairs; a null row is zeros.
  static void pack_values(float* words, int64_t stride, const void* const rows[2], DataType, int64_t size) {
    alignas(64) uint16_t both[2][kMaxHeadDim] = {};
    for (int i = 0; i < 2; ++i) {
      if (rows[i]) std::memcpy(both[i], rows[i], size * sizeof(uint16_t));
    }
    for (int64_t d = 0; d < stride; d += kWidth) {
      const __m512i low = _mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(both[0] + d)));
      const __m512i high = _mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(both[1] + d)));
      _mm512_storeu_si512(words + d, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }
};

}  // namespace
}  // namespace jenga::cpu
