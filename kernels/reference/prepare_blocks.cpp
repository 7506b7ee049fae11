// Carved copies of k and v, and means over runs of video tokens in curve order.
#include <algorithm>
#include <cmath>
#include <functional>

#include "kernels/reference/quantise.h"
#include "kernels/reference/reference.h"

namespace jenga::reference {
namespace {

using Row = std::vector<float>;

// Calls write(cell, mean) for every cell of one head.
template <typename Write>
void means(const PrepareBlocksParams& p, const Operand& x, int64_t head_offset, int64_t block_size, Write write) {
  Row mean(p.head_dim);
  for (int64_t first = 0, cell = 0; first < p.num_video; first += block_size, ++cell) {
    const int64_t last = std::min(first + block_size, p.num_video);
    for (int64_t d = 0; d < p.head_dim; ++d) {
      double sum = 0;
      for (int64_t r = first; r < last; ++r) {
        sum += load_element(x.data, head_offset + p.token_index[p.num_context + r] * x.strides.token + d, x.dtype);
      }
      mean[d] = static_cast<float>(sum / static_cast<double>(last - first));
    }
    write(cell, mean);
  }
}

// Calls write(row, values) for every carved row of one head; values are empty where there is no token, or a masked one.
// context_bias: of this batch row, or null.
template <typename Write>
void carve(const PrepareBlocksParams& p, const Operand& x, int64_t head_offset, const float* context_bias,
           Write write) {
  const int64_t context_rows = round_up(p.num_context, kContextAlignment);
  for (int64_t row = 0; row < context_rows + p.num_video; ++row) {
    const bool masked = row < context_rows && context_bias && std::isinf(context_bias[row]);
    const bool gap = row >= p.num_context && row < context_rows;
    const int64_t i = row < p.num_context ? row : row - context_rows + p.num_context;
    Row values(gap || masked ? 0 : p.head_dim);
    for (size_t d = 0; d < values.size(); ++d) {
      values[d] = load_element(x.data, head_offset + p.token_index[i] * x.strides.token + d, x.dtype);
    }
    write(row, values);
  }
}

// Writes rows of one head of an output in the dtype of the inputs.
auto plain_rows(const PrepareBlocksParams& p, void* out, int64_t first_row) {
  return [&p, out, first_row](int64_t row, const Row& values) {
    for (int64_t d = 0; d < p.head_dim; ++d) {
      store_element(out, (first_row + row) * p.head_dim + d, p.q.dtype, values.empty() ? 0.0f : values[d]);
    }
  };
}

// Takes rows of one head in their order and writes them about k_center, rotated, as int8 codes, kKeyScaleRows with one
// scale.
class KeyRows {
 public:
  KeyRows(const Row& center, int8_t* codes, float* scales)
      : center_(center),
        values_of_scale_(kKeyScaleRows * static_cast<int64_t>(center.size())),
        codes_(codes),
        scales_(scales) {}
  ~KeyRows() { write(); }

  void operator()(int64_t, const Row& values) {
    if (static_cast<int64_t>(rest_.size()) == values_of_scale_) write();
    const Row rest = values.empty() ? Row(center_.size()) : rotated_about(values.data(), center_.data(), values.size());
    rest_.insert(rest_.end(), rest.begin(), rest.end());
  }

 private:
  void write() {
    if (rest_.empty()) return;
    std::vector<int8_t> codes;
    *scales_++ = quantise_together(rest_, codes);
    codes_ = std::copy(codes.begin(), codes.end(), codes_);
    rest_.clear();
  }

  const Row& center_;
  const int64_t values_of_scale_;
  int8_t* codes_;
  float* scales_;
  Row rest_;
};

// Rows about v_center as e4m3 codes, with a scale a channel.
auto value_rows(const PrepareBlocksParams& p, const Row& center, const Row& scales, void* out, int64_t first_row) {
  return [&p, &center, &scales, out, first_row](int64_t row, const Row& values) {
    for (int64_t d = 0; d < p.head_dim; ++d) {
      const float value = values.empty() || scales[d] == 0 ? 0.0f : (values[d] - center[d]) * (1 / scales[d]);
      store_element(out, (first_row + row) * p.head_dim + d, DataType::kFloat8, value);
    }
  };
}

// Everything of one head.
class Head {
 public:
  Head(const PrepareBlocksParams& params, int64_t batch, int64_t head)
      : p_(params),
        batch_(batch),
        head_(head),
        batch_head_(batch * params.heads + head),
        rows_(round_up(params.num_context, kContextAlignment) + params.num_video),
        first_row_(batch_head_ * rows_),
        bias_(params.context_bias ? params.context_bias + batch * round_up(params.num_context, kContextAlignment)
                                  : nullptr) {}

  void pool(void* out, const Operand& x, int64_t size) const {
    if (out) means(p_, x, offset(x), size, plain_rows(p_, out, first_cell(size)));
  }

  void keys() const {
    if (!p_.k_scale) {
      if (p_.k_carved) carve(p_, p_.k, offset(p_.k), bias_, plain_rows(p_, p_.k_carved, first_row_));
      return pool(p_.k_tail, p_.k, p_.tail_block_size);
    }
    const Row center = center_of(p_, p_.k, offset(p_.k));
    write_channels(p_.k_center, center);
    const auto codes = [&](void* out, int64_t row) { return static_cast<int8_t*>(out) + row * p_.head_dim; };
    KeyRows carved(center, codes(p_.k_carved, first_row_), p_.k_scale + batch_head_ * scales_of_keys(rows_));
    carve(p_, p_.k, offset(p_.k), bias_, std::ref(carved));
    if (!p_.k_tail) return;
    const int64_t size = p_.tail_block_size, cell = first_cell(size);
    float* const scales = p_.k_tail_scale + batch_head_ * scales_of_keys(ceil_div(p_.num_video, size));
    KeyRows tail(center, codes(p_.k_tail, cell), scales);
    means(p_, p_.k, offset(p_.k), size, std::ref(tail));
  }

  void values() const {
    if (!p_.v_scale) {
      if (p_.v_carved) carve(p_, p_.v, offset(p_.v), bias_, plain_rows(p_, p_.v_carved, first_row_));
      return pool(p_.v_tail, p_.v, p_.tail_block_size);
    }
    const Row center = center_of(p_, p_.v, offset(p_.v));
    Row scales = sampled_scales(p_, p_.v, offset(p_.v), center);
    carve(p_, p_.v, offset(p_.v), bias_, [&](int64_t, const Row& row) {
      for (size_t d = 0; d < row.size(); ++d) {
        scales[d] = std::max(scales[d], std::abs(row[d] - center[d]) / kFloat8Max);
      }
    });
    write_channels(p_.v_center, center);
    write_channels(p_.v_scale, scales);
    carve(p_, p_.v, offset(p_.v), bias_, value_rows(p_, center, scales, p_.v_carved, first_row_));
    if (!p_.v_tail) return;
    const int64_t size = p_.tail_block_size;
    means(p_, p_.v, offset(p_.v), size, value_rows(p_, center, scales, p_.v_tail, first_cell(size)));
  }

 private:
  int64_t offset(const Operand& x) const { return batch_ * x.strides.batch + head_ * x.strides.head; }
  int64_t first_cell(int64_t size) const { return batch_head_ * ceil_div(p_.num_video, size); }
  void write_channels(float* out, const Row& row) const {
    std::copy(row.begin(), row.end(), out + batch_head_ * p_.head_dim);
  }

  const PrepareBlocksParams& p_;
  const int64_t batch_, head_, batch_head_, rows_, first_row_;
  const float* const bias_;
};

}  // namespace

void prepare_blocks(const PrepareBlocksParams& p) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const Head head(p, b, h);
      head.keys();
      head.values();
      head.pool(p.q_means, p.q, p.q_cell_size);
      head.pool(p.k_means, p.k, p.k_cell_size);
    }
  }
}

}  // namespace jenga::reference
