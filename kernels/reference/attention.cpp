// out = softmax(logits) V over the columns a row attends, two passes: all logits, then the weighted sum.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/numeric.h"
#include "kernels/reference/quantise.h"
#include "kernels/reference/reference.h"

namespace jenga::reference {
namespace {

struct Column {
  double logit;
  int64_t unit;
  const Operand* values;
  int64_t offset;  // of the value row, in elements
};

int64_t row_offset(const Strides& strides, int64_t b, int64_t h, int64_t row) {
  return b * strides.batch + h * strides.head + row * strides.token;
}

// A query as the products see it: its own numbers, or where keys are int8 those of it rotated and their scale.
struct Query {
  std::vector<float> exact, numbers;
  double scale = 1;

  Query(const BlockSparseAttentionParams& p, int64_t offset) : exact(p.head_dim) {
    for (int64_t d = 0; d < p.head_dim; ++d) exact[d] = load_element(p.q.data, offset + d, p.q.dtype);
    numbers = exact;
    if (p.k_carved.dtype != DataType::kInt8) return;
    std::vector<int8_t> codes;
    hadamard(numbers);
    scale = quantise_together(numbers, codes);
    numbers.assign(codes.begin(), codes.end());
  }

  double dot(const Operand& keys, int64_t offset) const {
    double sum = 0;
    for (size_t d = 0; d < numbers.size(); ++d) {
      sum += static_cast<double>(numbers[d]) * load_element(keys.data, offset + static_cast<int64_t>(d), keys.dtype);
    }
    return scale * sum;
  }
};

std::vector<Column> attended_columns(const BlockSparseAttentionParams& p, int64_t b, int64_t h, int64_t carved_row,
                                     int64_t unit_keys, const Query& query) {
  const int64_t context_rows = round_up(p.num_context, kContextAlignment);
  const int64_t nq = ceil_div(p.num_video, p.q_block_size), nkv = ceil_div(p.num_video, p.kv_block_size);
  const bool is_context = carved_row < p.num_context;
  std::vector<Column> columns;
  auto add = [&](const Operand& keys, const Operand& values, int64_t rows, int64_t row, double bias, int64_t unit) {
    const int64_t scales = (b * p.heads + h) * scales_of_keys(rows);
    const double scale = keys.scale ? keys.scale[scales + row / kKeyScaleRows] : 1.0;
    const double logit = p.softmax_scale * scale * query.dot(keys, row_offset(keys.strides, b, h, row)) + bias;
    columns.push_back({logit, unit, &values, row_offset(values.strides, b, h, row)});
  };
  auto add_carved = [&](int64_t row, double bias, int64_t unit) {
    add(p.k_carved, p.v_carved, context_rows + p.num_video, row, bias, unit);
  };
  for (int64_t c = 0; c < p.num_context; ++c) {
    const double bias = p.context_bias ? p.context_bias[b * context_rows + c] : 0.0;
    if (bias == -std::numeric_limits<double>::infinity()) continue;
    add_carved(c, is_context ? 0.0 : bias, c / unit_keys);
  }
  std::vector<bool> kept(nkv, is_context);
  if (!is_context) {
    const int64_t list = (b * p.heads + h) * nq + (carved_row - p.num_context) / p.q_block_size;
    for (int64_t i = 0; i < p.kv_block_count[list]; ++i) kept[p.kv_block_index[list * p.max_kv + i]] = true;
  }
  const int64_t first_video_unit = context_rows / unit_keys;
  int64_t listed = 0;
  for (int64_t r = 0; r < p.num_video; ++r) {
    if (kept[r / p.kv_block_size]) add_carved(context_rows + r, 0.0, first_video_unit + listed++ / unit_keys);
  }
  const int64_t first_tail_unit = first_video_unit + ceil_div(listed, unit_keys);
  if (p.k_tail.data && !is_context) {
    const int64_t nc = ceil_div(p.num_video, p.tail_block_size);
    for (int64_t c = 0; c < nc; ++c) {
      const int64_t first = c * p.tail_block_size;
      if (kept[first / p.kv_block_size]) continue;
      const double log_tokens = std::log(std::min(p.tail_block_size, p.num_video - first));
      const double bias = p.tail_bias ? p.tail_bias[(b * p.heads + h) * nc + c] : log_tokens;
      add(p.k_tail, p.v_tail, nc, c, bias, first_tail_unit + c / unit_keys);
    }
  }
  return columns;
}

// The weight e^x, x at most 0, as its e4m3 code says it.
double float8_weight(double x) {
  const double code = std::max(0.0, std::nearbyint(126 + 8 * x / std::log(2.)));
  return fp8_to_float(static_cast<uint8_t>(code)) / kFloat8Max;
}

// The largest logit of every unit, -inf of one that has no column.
std::vector<double> largest_of_units(const std::vector<Column>& columns) {
  std::vector<double> largest;
  for (const Column& column : columns) {
    const auto needed = static_cast<size_t>(column.unit) + 1;
    if (largest.size() < needed) largest.resize(needed, -std::numeric_limits<double>::infinity());
    largest[column.unit] = std::max(largest[column.unit], column.logit);
  }
  return largest;
}

void attend_row(const BlockSparseAttentionParams& p, int64_t unit_keys, int64_t b, int64_t h, int64_t carved_row) {
  const int64_t tokens = p.num_context + p.num_video, token = p.token_index[carved_row], head = b * p.heads + h;
  const Query query(p, row_offset(p.q.strides, b, h, token));
  const std::vector<Column> columns = attended_columns(p, b, h, carved_row, unit_keys, query);

  const std::vector<double> largest = largest_of_units(columns);
  const double top = columns.empty() ? -std::numeric_limits<double>::infinity() : *std::ranges::max_element(largest);
  const bool fp8 = p.v_carved.dtype == DataType::kFloat8;
  double mass = 0;
  std::vector<double> sum(p.head_dim, 0.0);
  for (const Column& column : columns) {
    const double of_unit = fp8 ? largest[column.unit] : column.logit;  // the part of the weight that is not rounded
    const double weight = std::exp(of_unit - top) * (fp8 ? float8_weight(column.logit - of_unit) : 1.0);
    mass += weight;
    const Operand& values = *column.values;
    for (int64_t d = 0; d < p.head_dim; ++d) {
      sum[d] += weight * load_element(values.data, column.offset + d, values.dtype);
    }
  }

  double shift = 0;  // of every logit, which the center took away
  for (int64_t d = 0; p.k_center && d < p.head_dim; ++d) {
    shift += p.softmax_scale * static_cast<double>(query.exact[d]) * p.k_center[head * p.head_dim + d];
  }
  p.lse[head * tokens + token] = static_cast<float>(columns.empty() ? top : top + std::log(mass) + shift);
  const int64_t out_row = row_offset(p.out.strides, b, h, token);
  const int64_t residual_row = (b * tokens + token) * p.heads + h;
  for (int64_t d = 0; d < p.head_dim; ++d) {
    double value = columns.empty() ? 0.0 : sum[d] / mass;
    if (fp8 && !columns.empty()) {
      value = value * p.v_carved.scale[head * p.head_dim + d] + p.v_center[head * p.head_dim + d];
    }
    if (p.residual) {
      value += load_residual(p.residual, p.residual_scale, p.residual_type, residual_row, p.head_dim, d);
    }
    store_element(p.out.data, out_row + d, p.out.dtype, static_cast<float>(value));
  }
}

}  // namespace

void block_sparse_attention(const BlockSparseAttentionParams& p, int64_t unit_keys) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t row = 0; row < p.num_context + p.num_video; ++row) attend_row(p, unit_keys, b, h, row);
    }
  }
}

}  // namespace jenga::reference
