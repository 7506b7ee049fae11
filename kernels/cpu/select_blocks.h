// Scores and weights of select_blocks, for any tier (include after simd.h and vector_math.h).
#pragma once

#include "kernels/cpu/selection_plan.h"

namespace jenga::cpu {
namespace {

void score_blocks(const float* q, const float* k, int64_t num_blocks, int64_t head_dim, float scale, float* scores) {
  constexpr int kKeys = 4;
  for (int64_t j = 0; j < num_blocks; j += kKeys) {
    const float* rows[kKeys];
    for (int i = 0; i < kKeys; ++i) rows[i] = k + (j + i < num_blocks ? j + i : num_blocks - 1) * head_dim;
    Vec acc[kKeys] = {};
    float rest[kKeys] = {};
    int64_t d = 0;
    for (; d + kWidth <= head_dim; d += kWidth) {
      const Vec a = load(q + d);
#pragma GCC unroll 4
      for (int i = 0; i < kKeys; ++i) acc[i] = madd(a, load(rows[i] + d), acc[i]);
    }
    for (; d < head_dim; ++d) {
      for (int i = 0; i < kKeys; ++i) rest[i] += q[d] * rows[i][d];
    }
    for (int i = 0; i < kKeys && j + i < num_blocks; ++i) scores[j + i] = scale * (sum(acc[i]) + rest[i]);
  }
}

void weigh_blocks(const float* scores, int64_t num_blocks, float* weights) {
  constexpr float kLog2OfE = 1.44269504088896340736f;
  float best = scores[0];
  for (int64_t j = 1; j < num_blocks; ++j) best = scores[j] > best ? scores[j] : best;
  alignas(64) float last[kWidth] = {};
  for (int64_t j = 0; j < num_blocks; j += kWidth) {
    const int64_t count = num_blocks - j < kWidth ? num_blocks - j : kWidth;
    std::memcpy(last, scores + j, count * sizeof(float));
    store(last, exp2_precise((load(last) - set1(best)) * set1(kLog2OfE)));
    std::memcpy(weights + j, last, count * sizeof(float));
  }
}

void select_blocks(const SelectBlocksParams& params, ParallelFor parallel_for) {
  run_selection(params, parallel_for, {score_blocks, weigh_blocks});
}

}  // namespace
}  // namespace jenga::cpu
