// block_sparse_attention as a user would write it in the dtype of the inputs: every intermediate is rounded to that
// dtype. Its error against fp64 is the measure of what a kernel may err.
#pragma once

#include <algorithm>
#include <cmath>

#include "tests/cpp/kernels/cases.h"

namespace jenga::test {

inline float rounded(DataType type, float value) {
  uint32_t storage;
  store_element(&storage, 0, type, value);
  return load_element(&storage, 0, type);
}

inline void plain_row(const BlockSparseAttentionParams& p, int64_t b, int64_t h, int64_t i) {
  const int64_t context_rows = round_up(p.num_context, kContextAlignment), tokens = p.num_context + p.num_video;
  const int64_t nkv = ceil_div(p.num_video, p.kv_block_size), nq = ceil_div(p.num_video, p.q_block_size);
  const int64_t nc = p.k_tail.data ? ceil_div(p.num_video, p.tail_block_size) : 0;
  const bool is_context = i < p.num_context;
  const int64_t token = p.token_index[i], head = b * p.heads + h;
  const DataType type = p.q.dtype;
  const auto at = [&](const Strides& x, int64_t row) { return b * x.batch + h * x.head + row * x.token; };
  const int64_t q = at(p.q.strides, token);
  std::vector<float> logits;
  std::vector<std::pair<const void*, int64_t>> values;
  auto add = [&](const Operand& keys, const Operand& vs, int64_t row, float bias) {
    const int64_t k = at(keys.strides, row);
    float sum = 0;
    for (int64_t d = 0; d < p.head_dim; ++d) {
      sum += load_element(p.q.data, q + d, type) * load_element(keys.data, k + d, type);
    }
    const float scaled = rounded(type, rounded(type, sum) * p.softmax_scale);
    logits.push_back(rounded(type, scaled + bias));
    values.emplace_back(vs.data, at(vs.strides, row));
  };
  auto add_carved = [&](int64_t row, float bias) { add(p.k_carved, p.v_carved, row, bias); };
  for (int64_t c = 0; c < p.num_context; ++c) {
    const float bias = p.context_bias ? p.context_bias[b * context_rows + c] : 0.0f;
    if (std::isfinite(bias)) add_carved(c, is_context ? 0.0f : bias);
  }
  std::vector<uint8_t> kept(nkv, is_context);
  if (!is_context) {
    const int64_t list = head * nq + (i - p.num_context) / p.q_block_size;
    for (int64_t j = 0; j < p.kv_block_count[list]; ++j) kept[p.kv_block_index[list * p.max_kv + j]] = 1;
  }
  for (int64_t r = 0; r < p.num_video; ++r) {
    if (kept[r / p.kv_block_size]) add_carved(context_rows + r, 0.0f);
  }
  for (int64_t c = 0; c < nc; ++c) {
    const int64_t first = c * p.tail_block_size;
    const auto count = static_cast<float>(std::min(p.tail_block_size, p.num_video - first));
    const float bias = p.tail_bias ? p.tail_bias[head * nc + c] : std::log(count);
    if (!kept[first / p.kv_block_size]) add(p.k_tail, p.v_tail, c, bias);
  }
  float top = -std::numeric_limits<float>::infinity(), mass = 0;
  for (const float logit : logits) top = std::max(top, logit);
  for (const float logit : logits) mass += std::exp(logit - top);
  std::vector<float> sums(p.head_dim, 0.0f);
  for (size_t j = 0; j < logits.size(); ++j) {
    const float weight = rounded(type, std::exp(logits[j] - top) / mass);
    for (int64_t d = 0; d < p.head_dim; ++d) {
      sums[d] += weight * load_element(values[j].first, values[j].second + d, type);
    }
  }
  p.lse[head * tokens + token] = logits.empty() ? top : top + std::log(mass);
  const int64_t out = at(p.out.strides, token);
  for (int64_t d = 0; d < p.head_dim; ++d) {
    float value = rounded(type, sums[d]);
    if (p.residual) {
      value += load_residual(p.residual, p.residual_scale, p.residual_type, (b * tokens + token) * p.heads + h,
                             p.head_dim, d);
    }
    store_element(p.out.data, out + d, type, value);
  }
}

inline void plain_attention(const BlockSparseAttentionParams& p) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t i = 0; i < p.num_context + p.num_video; ++i) plain_row(p, b, h, i);
    }
  }
}

}  // namespace jenga::test
