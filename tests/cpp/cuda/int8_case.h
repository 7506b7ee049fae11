// An attention case with int8 keys in memory of the host, quantised by the rules of kernels/params.h.
#pragma once

#include "kernels/reference/quantise.h"
#include "tests/cpp/cuda/host_case.h"

namespace jenga::testing {

// Rows about a center, rotated, as codes and scales, one for kKeyScaleRows of a head. A row of zeros, which is no
// token, stays one.
struct Codes {
  std::vector<int8_t> codes;
  std::vector<float> scales;

  // center: [heads, channels] of rows_per_head rows each.
  Codes(const std::vector<float>& rows, const std::vector<float>& center, int64_t rows_per_head, int64_t channels) {
    std::vector<float> rest;
    const int64_t number = static_cast<int64_t>(rows.size()) / channels;
    for (int64_t row = 0; row < number; ++row) {
      const float* const values = &rows[row * channels];
      const bool is_token = std::any_of(values, values + channels, [](float x) { return x != 0; });
      const float* const of_head = &center[row / rows_per_head * channels];
      const std::vector<float> about =
          is_token ? reference::rotated_about(values, of_head, channels) : std::vector<float>(channels);
      rest.insert(rest.end(), about.begin(), about.end());
      const int64_t next = row % rows_per_head + 1;  // in its head
      if (next % kKeyScaleRows != 0 && next != rows_per_head) continue;
      std::vector<int8_t> together;
      scales.push_back(reference::quantise_together(rest, together));
      codes.insert(codes.end(), together.begin(), together.end());
      rest.clear();
    }
  }
};

struct Int8Case : HostCase {
  std::vector<float> center;
  Codes k_codes, k_tail_codes;

  explicit Int8Case(const AttentionCase& which)
      : HostCase(which),
        center(centers()),
        k_codes(data.k_carved, center, which.carved_rows(), which.head_dim),
        k_tail_codes(data.k_tail, center, std::max<int64_t>(1, which.tail_cells()), which.head_dim) {}

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

  template <class Place>
  BlockSparseAttentionParams params(Place&& place) const {
    BlockSparseAttentionParams p = HostCase::params(place);
    const auto codes = [&](const Codes& rows, int64_t number) {
      return rows_of(place(rows.codes), number, DataType::kInt8, place(rows.scales));
    };
    p.k_carved = codes(k_codes, shape.carved_rows());
    if (shape.tail_cells() > 0) p.k_tail = codes(k_tail_codes, shape.tail_cells());
    p.k_center = place(center);
    return p;
  }
};

}  // namespace jenga::testing
