// An attention case with int8 keys in memory of the host, quantised by the rules of kernels/params.h.
#pragma once

#include "kernels/reference/quantise.h"
#include "tests/cpp/cuda/attention_case.h"

namespace jenga::testing {

// Rows about a center as codes and scales. A row of zeros, which is no token, stays one.
struct Codes {
  std::vector<int8_t> codes;
  std::vector<float> scales;

  // center: [heads, channels] of rows_per_head rows each.
  Codes(const std::vector<float>& rows, const std::vector<float>& center, int64_t rows_per_head, int64_t channels) {
    for (size_t row = 0; row * channels < rows.size(); ++row) {
      std::vector<float> rest(&rows[row * channels], &rows[row * channels] + channels);
      const bool is_token = std::any_of(rest.begin(), rest.end(), [](float x) { return x != 0; });
      for (int64_t c = 0; is_token && c < channels; ++c) rest[c] -= center[row / rows_per_head * channels + c];
      std::vector<int8_t> row_codes;
      scales.push_back(reference::quantise_row(rest, row_codes));
      codes.insert(codes.end(), row_codes.begin(), row_codes.end());
    }
  }
};

// One case in memory of the host, from which device memory is made.
struct HostCase {
  const AttentionCase& shape;
  AttentionData data;
  std::vector<uint16_t> q, v, v_tail;
  std::vector<float> center;
  Codes k, k_tail;

  explicit HostCase(const AttentionCase& which)
      : shape(which),
        data(which, 1),
        q(encoded(which.dtype, data.q)),
        v(encoded(which.dtype, data.v_carved)),
        v_tail(encoded(which.dtype, data.v_tail)),
        center(centers()),
        k(data.k_carved, center, which.carved_rows(), which.head_dim),
        k_tail(data.k_tail, center, std::max<int64_t>(1, which.tail_cells()), which.head_dim) {}

  std::vector<float> centers() const {
    const int64_t rows = shape.carved_rows(), channels = shape.head_dim;
    std::vector<float> means(shape.batch * shape.heads * channels, 0.f);
    for (int64_t head = 0; head < shape.batch * shape.heads; ++head) {
      for (int64_t row = shape.padded_context(); row < rows; ++row) {
        for (int64_t c = 0; c < channels; ++c) {
          means[head * channels + c] += data.k_carved[(head * rows + row) * channels + c] / shape.num_video;
        }
      }
    }
    return means;
  }

  // Sizes and host memory; the test replaces pointers by those of the device.
  BlockSparseAttentionParams params() const {
    const auto rows_of = [&](const void* memory, int64_t number, DataType dtype, const float* scale = nullptr) {
      return Operand{memory, contiguous(shape, number), dtype, scale};
    };
    BlockSparseAttentionParams p{};
    p.q = rows_of(q.data(), shape.tokens(), shape.dtype);
    p.k_carved = rows_of(k.codes.data(), shape.carved_rows(), DataType::kInt8, k.scales.data());
    p.v_carved = rows_of(v.data(), shape.carved_rows(), shape.dtype);
    if (shape.tail_cells() > 0) {
      p.k_tail = rows_of(k_tail.codes.data(), shape.tail_cells(), DataType::kInt8, k_tail.scales.data());
      p.v_tail = rows_of(v_tail.data(), shape.tail_cells(), shape.dtype);
    }
    p.kv_block_index = data.index.data();
    p.kv_block_count = data.count.data();
    p.token_index = data.token_index.data();
    p.context_bias = data.context_bias.empty() ? nullptr : data.context_bias.data();
    p.residual = data.residual_bytes.empty() ? nullptr : data.residual_bytes.data();
    p.residual_scale = data.residual_scale.empty() ? nullptr : data.residual_scale.data();
    p.residual_type = shape.residual;
    p.k_center = center.data();
    p.batch = shape.batch;
    p.heads = shape.heads;
    p.head_dim = shape.head_dim;
    p.num_context = shape.num_context;
    p.num_video = shape.num_video;
    p.max_kv = shape.kv_blocks();
    p.q_block_size = 128;
    p.kv_block_size = shape.kv_block_size;
    p.tail_block_size = shape.tail_block_size;
    p.softmax_scale = data.softmax_scale();
    return p;
  }
};

}  // namespace jenga::testing
