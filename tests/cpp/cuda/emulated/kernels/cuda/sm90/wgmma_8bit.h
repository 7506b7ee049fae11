// The products of kernels/cuda/sm90/wgmma_8bit.h by what the PTX manual says of their operands.
#pragma once

#include "kernels/value_blocks.h"
#include "tests/cpp/cuda/emulated/float8_sums.h"
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/wgmma.h"

namespace jenga::cuda::sm90 {

inline uint64_t value_descriptor(const void* shared) { return descriptor_of(shared, 8 * kValueBlockKeys, 2); }

template <bool kFirst>
void multiply_int8(int32_t (&d)[64], uint64_t a, uint64_t b) {
  uint8_t queries[2][32], keys[32];
  for (int i = 0; i < 2; ++i) read_row(queries[i], a, threadIdx.x / 32 % 4 * 16 + row_of_warp(i));
  for (int j = 0; j < 16; ++j) {
    for (int e = 0; e < 2; ++e) {
      read_row(keys, b, column(j, e));
      for (int i = 0; i < 2; ++i) {
        int32_t& sum = d[4 * j + 2 * i + e];
        if (kFirst) sum = 0;
        for (int k = 0; k < 32; ++k) sum += static_cast<int8_t>(queries[i][k]) * static_cast<int8_t>(keys[k]);
      }
    }
  }
}

template <bool kFirst>
void multiply_fp8(float (&d)[68], const uint32_t* a, uint64_t b) {
  struct Words {
    uint32_t word[4];
  };
  emulated::Block& block = emulated::block();
  block.leave(Words{{a[0], a[1], a[2], a[3]}});
  block.sync_warp();
  float weights[2][32], values[32];
  for (int i = 0; i < 2; ++i) {
    for (int k = 0; k < 32; ++k) {
      const int thread = block.first_of_warp() + threadIdx.x % 32 / 4 * 4 + k % 16 / 4;
      const uint32_t word = block.left_by<Words>(thread).word[2 * (k / 16) + i];
      weights[i][k] = fp8_to_float(static_cast<uint8_t>(word >> 8 * (k % 4)));
    }
  }
  block.sync_warp();
  uint8_t codes[32];
  for (int j = 0; j < 17; ++j) {
    for (int e = 0; e < 2; ++e) {
      read_row(codes, b, column(j, e));
      for (int k = 0; k < 32; ++k) values[k] = fp8_to_float(codes[k]);
      for (int i = 0; i < 2; ++i) {
        float& sum = d[4 * j + 2 * i + e];
        sum = emulated::add_products(kFirst ? 0.f : sum, weights[i], values);
      }
    }
  }
}

template <bool kFirst>
void wgmma_int8_scores(int32_t (&d)[64], uint64_t a, uint64_t b) {
  issue_product([&d, a, b] { multiply_int8<kFirst>(d, a, b); });
}
template <bool kFirst>
void wgmma_fp8_outputs(float (&d)[68], const uint32_t* a, uint64_t b) {
  issue_product([&d, a, b] { multiply_fp8<kFirst>(d, a, b); });
}

}  // namespace jenga::cuda::sm90
