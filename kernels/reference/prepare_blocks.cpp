// Carved copies of k and v, and means over runs of video tokens in curve order.
#include <algorithm>
#include <cmath>

#include "kernels/numeric.h"
#include "kernels/reference/reference.h"

namespace jenga::reference {
namespace {

// Calls store(cell * head_dim + d, mean) for every cell of one head.
template <typename Store>
void means(const PrepareBlocksParams& p, const void* x, int64_t head_offset, int64_t token_stride, int64_t block_size,
           Store store) {
  for (int64_t first = 0, cell = 0; first < p.num_video; first += block_size, ++cell) {
    const int64_t last = std::min(first + block_size, p.num_video);
    for (int64_t d = 0; d < p.head_dim; ++d) {
      double sum = 0;
      for (int64_t r = first; r < last; ++r) {
        sum += load_element(x, head_offset + p.token_index[p.num_context + r] * token_stride + d, p.dtype);
      }
      store(cell * p.head_dim + d, static_cast<float>(sum / static_cast<double>(last - first)));
    }
  }
}

// context_bias: of this batch row, or null.
void carve(const PrepareBlocksParams& p, const void* x, int64_t head_offset, int64_t token_stride,
           const float* context_bias, void* carved, int64_t carved_offset) {
  const int64_t context_rows = round_up(p.num_context, kContextAlignment);
  for (int64_t row = 0; row < context_rows + p.num_video; ++row) {
    const bool masked = row < context_rows && context_bias && std::isinf(context_bias[row]);
    const bool gap = row >= p.num_context && row < context_rows;
    const int64_t i = row < p.num_context ? row : row - context_rows + p.num_context;
    for (int64_t d = 0; d < p.head_dim; ++d) {
      const float value =
          gap || masked ? 0.0f : load_element(x, head_offset + p.token_index[i] * token_stride + d, p.dtype);
      store_element(carved, carved_offset + row * p.head_dim + d, p.dtype, value);
    }
  }
}

}  // namespace

void prepare_blocks(const PrepareBlocksParams& p) {
  const int64_t carved_rows = round_up(p.num_context, kContextAlignment) + p.num_video;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const int64_t head = b * p.heads + h;
      const int64_t q = b * p.q_strides.batch + h * p.q_strides.head;
      const int64_t k = b * p.k_strides.batch + h * p.k_strides.head;
      const int64_t v = b * p.v_strides.batch + h * p.v_strides.head;
      const float* bias = p.context_bias ? p.context_bias + b * round_up(p.num_context, kContextAlignment) : nullptr;
      if (p.k_carved) carve(p, p.k, k, p.k_strides.token, bias, p.k_carved, head * carved_rows * p.head_dim);
      if (p.v_carved) carve(p, p.v, v, p.v_strides.token, bias, p.v_carved, head * carved_rows * p.head_dim);
      auto pool = [&](void* out, const void* x, int64_t offset, int64_t token_stride, int64_t cell_size) {
        if (!out) return;
        const int64_t base = head * ceil_div(p.num_video, cell_size) * p.head_dim;
        means(p, x, offset, token_stride, cell_size,
              [&](int64_t i, float mean) { store_element(out, base + i, p.dtype, mean); });
      };
      pool(p.q_means, p.q, q, p.q_strides.token, p.q_cell_size);
      pool(p.k_means, p.k, k, p.k_strides.token, p.k_cell_size);
      pool(p.k_tail, p.k, k, p.k_strides.token, p.tail_block_size);
      pool(p.v_tail, p.v, v, p.v_strides.token, p.tail_block_size);
    }
  }
}

}  // namespace jenga::reference
