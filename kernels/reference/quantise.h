// 8-bit keys and values of one head, by the rules of kernels/params.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/numeric.h"

namespace jenga::reference {

// values times H of kernels/params.h, in place. In fp32, with the sums of kernels in their order.
inline void hadamard(std::vector<float>& values) {
  const size_t size = rotation_size(static_cast<int64_t>(values.size()));
  for (size_t apart = 1; apart < size; apart *= 2) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (i / apart % 2 != 0) continue;
      const float one = values[i], other = values[i + apart];
      values[i] = one + other;
      values[i + apart] = one - other;
    }
  }
}

// A key's distance from the center, of which codes are made: rotated, and over the channels of a rotation.
inline std::vector<float> rotated_about(const float* key, const float* center, size_t channels) {
  std::vector<float> rest(channels);
  for (size_t d = 0; d < channels; ++d) rest[d] = key[d] - center[d];
  hadamard(rest);
  for (float& value : rest) value /= static_cast<float>(rotation_size(static_cast<int64_t>(channels)));
  return rest;
}

// Codes of values that share a scale, which is returned.
inline float quantise_together(const std::vector<float>& values, std::vector<int8_t>& codes) {
  float top = 0;
  for (const float x : values) top = std::max(top, std::abs(x));
  const float scale = top / kInt8Max, inverse = 1 / scale;
  codes.resize(values.size());
  for (size_t i = 0; i < values.size(); ++i) codes[i] = scale > 0 ? float_to_int8(values[i] * inverse) : int8_t{0};
  return scale;
}

// Calls take(value) for a channel of the sampled video rows of a head.
template <class Take>
void each_sample(const PrepareBlocksParams& p, const Operand& x, int64_t head_offset, int64_t channel, Take take) {
  for (int64_t r = 0; r < p.num_video; r += kSampledRows)
    take(load_element(x.data, head_offset + p.token_index[p.num_context + r] * x.strides.token + channel, x.dtype));
}

// The mean of the sampled video rows of a head.
inline std::vector<float> center_of(const PrepareBlocksParams& p, const Operand& x, int64_t head_offset) {
  std::vector<float> center(p.head_dim);
  for (int64_t d = 0; d < p.head_dim; ++d) {
    double sum = 0;
    each_sample(p, x, head_offset, d, [&](float value) { sum += value; });
    center[d] = static_cast<float>(sum / static_cast<double>(ceil_div(p.num_video, kSampledRows)));
  }
  return center;
}

// Scales of e4m3 values as the sampled video rows of a head ask for them; other rows may ask for larger ones.
inline std::vector<float> sampled_scales(const PrepareBlocksParams& p, const Operand& x, int64_t head_offset,
                                         const std::vector<float>& center) {
  std::vector<float> scales(p.head_dim);
  for (int64_t d = 0; d < p.head_dim; ++d) {
    each_sample(p, x, head_offset, d,
                [&](float value) { scales[d] = std::max(scales[d], std::abs(value - center[d]) / kSampledFloat8Max); });
  }
  return scales;
}

}  // namespace jenga::reference
