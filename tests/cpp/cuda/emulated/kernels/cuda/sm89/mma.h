// The instruction of kernels/cuda/sm89/mma.h by what the PTX manual says of it. Sums are cut off as Hopper's are: Ada's
// and Blackwell's are taken to be no more exact.
#pragma once

#include "tests/cpp/cuda/emulated/float8_sums.h"
#include "tests/cpp/cuda/emulated/kernels/cuda/sm80/mma.h"

namespace jenga::cuda::sm89 {

inline void multiply_add_fp8(float* c, const uint32_t* a, uint32_t b0, uint32_t b1) {
  float weights[4][32], values[4][32];  // of every sum, in the order in which its words meet
  int met[4] = {};
  sm80::for_words(a, b0, b1, [&](int e, uint32_t x, uint32_t y) {
    for (int i = 0; i < 4; ++i, ++met[e]) {
      weights[e][met[e]] = fp8_to_float(static_cast<uint8_t>(x >> 8 * i));
      values[e][met[e]] = fp8_to_float(static_cast<uint8_t>(y >> 8 * i));
    }
  });
  for (int e = 0; e < 4; ++e) c[e] = emulated::add_products(c[e], weights[e], values[e]);
}

}  // namespace jenga::cuda::sm89
