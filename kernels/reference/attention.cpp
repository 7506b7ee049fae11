// out = softmax(logits) V over the columns a row attends, two passes: all logits, then the weighted sum.
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/numeric.h"
#include "kernels/reference/reference.h"

namespace jenga::reference {
namespace {

struct Column {
  double logit;
  const void* values;
  int64_t offset;  // of the value row, in elements
};

double dot(const void* a, int64_t a_offset, const void* b, int64_t b_offset, int64_t size, DataType type) {
  double sum = 0;
  for (int64_t d = 0; d < size; ++d) {
    sum += static_cast<double>(load_element(a, a_offset + d, type)) * load_element(b, b_offset + d, type);
  }
  return sum;
}

void attend_row(const BlockSparseAttentionParams& p, int64_t b, int64_t h, int64_t carved_row) {
  const int64_t context_rows = round_up(p.num_context, kContextAlignment);
  const int64_t tokens = p.num_context + p.num_video;
  const int64_t nq = ceil_div(p.num_video, p.q_block_size);
  const int64_t nkv = ceil_div(p.num_video, p.kv_block_size);
  const bool is_context = carved_row < p.num_context;
  const int64_t token = p.token_index[carved_row];
  const int64_t q_row = b * p.q_strides.batch + h * p.q_strides.head + token * p.q_strides.token;

  std::vector<Column> columns;
  auto add = [&](int64_t row, double bias) {
    const int64_t k_row = b * p.k_strides.batch + h * p.k_strides.head + row * p.k_strides.token;
    const int64_t v_row = b * p.v_strides.batch + h * p.v_strides.head + row * p.v_strides.token;
    const double logit = p.softmax_scale * dot(p.q, q_row, p.k_carved, k_row, p.head_dim, p.dtype) + bias;
    columns.push_back({logit, p.v_carved, v_row});
  };

  for (int64_t c = 0; c < p.num_context; ++c) {
    const double bias = p.context_bias ? p.context_bias[b * context_rows + c] : 0.0;
    if (bias == -std::numeric_limits<double>::infinity()) continue;
    add(c, is_context ? 0.0 : bias);
  }
  std::vector<bool> kept(nkv, is_context);
  if (!is_context) {
    const int64_t list = (b * p.heads + h) * nq + (carved_row - p.num_context) / p.q_block_size;
    for (int64_t i = 0; i < p.kv_block_count[list]; ++i) kept[p.kv_block_index[list * p.max_kv + i]] = true;
  }
  for (int64_t r = 0; r < p.num_video; ++r) {
    if (kept[r / p.kv_block_size]) add(context_rows + r, 0.0);
  }
  if (p.k_tail && !is_context) {
    const int64_t nc = ceil_div(p.num_video, p.tail_block_size);
    for (int64_t c = 0; c < nc; ++c) {
      const int64_t first = c * p.tail_block_size;
      if (kept[first / p.kv_block_size]) continue;
      const int64_t count = std::min(p.tail_block_size, p.num_video - first);
      const int64_t cell = ((b * p.heads + h) * nc + c) * p.head_dim;
      const double logit = p.softmax_scale * dot(p.q, q_row, p.k_tail, cell, p.head_dim, p.dtype) + std::log(count);
      columns.push_back({logit, p.v_tail, cell});
    }
  }

  double top = -std::numeric_limits<double>::infinity();
  for (const Column& column : columns) top = std::max(top, column.logit);
  double mass = 0;
  std::vector<double> sum(p.head_dim, 0.0);
  for (const Column& column : columns) {
    const double weight = std::exp(column.logit - top);
    mass += weight;
    for (int64_t d = 0; d < p.head_dim; ++d) sum[d] += weight * load_element(column.values, column.offset + d, p.dtype);
  }

  p.lse[(b * p.heads + h) * tokens + token] = static_cast<float>(columns.empty() ? top : top + std::log(mass));
  const int64_t out_row = b * p.out_strides.batch + h * p.out_strides.head + token * p.out_strides.token;
  const int64_t residual_row = (b * tokens + token) * p.heads + h;
  for (int64_t d = 0; d < p.head_dim; ++d) {
    double value = columns.empty() ? 0.0 : sum[d] / mass;
    if (p.residual) {
      value += load_residual(p.residual, p.residual_scale, p.residual_type, residual_row, p.head_dim, d);
    }
    store_element(p.out, out_row + d, p.dtype, static_cast<float>(value));
  }
}

}  // namespace

void block_sparse_attention(const BlockSparseAttentionParams& p) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t row = 0; row < p.num_context + p.num_video; ++row) attend_row(p, b, h, row);
    }
  }
}

}  // namespace jenga::reference
