// Inputs of one block_sparse_attention call on the host, and what it must give, in fp64.
//
// Tolerance: `plain` is the same formula in the arithmetic of plain torch (scores, probabilities and outputs rounded to
// the dtype); a kernel may be at most twice as far from fp64 as plain is.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/params.h"

namespace jenga::testing {

enum class Lists { kRandom, kFull, kEmpty, kOne, kLast, kUneven };
// kMasked: two thirds of the context are -inf. kSink: of video queries the first of the context takes nearly all and
// has value 0; what the others have, 60 more than usual, is what little is left.
enum class Bias { kNone, kFinite, kMasked, kSink };
enum class Memory { kHeadsFirst, kTokensFirst, kHeadsFarApart };  // far apart: more than 2^31 elements between heads

struct AttentionCase {
  const char* name;
  DataType dtype = DataType::kBFloat16;
  int64_t head_dim = 128;
  int64_t num_context = 0;
  int64_t num_video = 500;
  int64_t kv_block_size = 64;
  int64_t tail_block_size = 0;
  Lists lists = Lists::kRandom;
  Bias bias = Bias::kNone;
  ResidualType residual = ResidualType::kNone;
  Memory memory = Memory::kHeadsFirst;
  int64_t batch = 1;
  int64_t heads = 2;
  bool tail_bias = false;  // tail cells count as more or less than their tokens

  int64_t tokens() const { return num_context + num_video; }
  int64_t padded_context() const { return round_up(num_context, kContextAlignment); }
  int64_t carved_rows() const { return padded_context() + num_video; }
  int64_t q_blocks() const { return ceil_div(num_video, 128); }
  int64_t kv_blocks() const { return ceil_div(num_video, kv_block_size); }
  int64_t tail_cells() const { return tail_block_size ? ceil_div(num_video, tail_block_size) : 0; }
};

inline uint16_t encode(DataType dtype, float value) {
  return dtype == DataType::kBFloat16 ? __bfloat16_as_ushort(__float2bfloat16(value))
                                      : __half_as_ushort(__float2half(value));
}

inline std::vector<uint16_t> encoded(DataType dtype, const std::vector<float>& values) {
  std::vector<uint16_t> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), [dtype](float value) { return encode(dtype, value); });
  return bits;
}
inline float decode(DataType dtype, uint16_t bits) {
  return dtype == DataType::kBFloat16 ? __bfloat162float(__ushort_as_bfloat16(bits))
                                      : __half2float(__ushort_as_half(bits));
}
inline std::vector<double> decoded(DataType dtype, const std::vector<uint16_t>& bits) {
  std::vector<double> values(bits.size());
  std::transform(bits.begin(), bits.end(), values.begin(), [dtype](uint16_t value) { return decode(dtype, value); });
  return values;
}
inline float rounded(DataType dtype, double value) { return decode(dtype, encode(dtype, static_cast<float>(value))); }

// In L2; the absolute error where nothing is wanted but zeros.
inline double relative_error(const std::vector<double>& got, const std::vector<double>& want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
}

// Contiguous [B, H, rows, D] memory of a case.
inline Strides contiguous(const AttentionCase& shape, int64_t rows) {
  return {shape.heads * rows * shape.head_dim, rows * shape.head_dim, shape.head_dim};
}

struct AttentionResult {
  std::vector<double> out;  // [B, H, S, D] raster order
  std::vector<double> lse;  // [B, H, S]
};

class AttentionData {
 public:
  AttentionData(const AttentionCase& shape, uint32_t seed) : shape_(shape), random_(seed) {
    const int64_t rows = shape.batch * shape.heads;
    for (auto* tensor : {&q, &k, &v}) *tensor = normal(rows * shape.tokens() * shape.head_dim);
    token_index.resize(shape.tokens());
    std::iota(token_index.begin(), token_index.end(), 0);
    std::shuffle(token_index.begin(), token_index.end(), random_);
    if (shape.bias == Bias::kSink) empty_sink();
    k_carved = carve(k);
    v_carved = carve(v);
    k_tail = cell_means(k_carved);
    v_tail = cell_means(v_carved);
    make_lists();
    make_bias();
    make_residual();
    make_tail_bias();
  }

  // Draws new lists over the same tokens.
  void make_lists() {
    const int64_t nkv = shape_.kv_blocks();
    kept.assign(shape_.batch * shape_.heads * shape_.q_blocks() * nkv, 0);
    index.assign(kept.size(), -1);
    count.assign(kept.size() / nkv, 0);
    std::uniform_real_distribution<float> uniform;
    for (size_t list = 0; list < count.size(); ++list) {
      const float share = shape_.lists == Lists::kUneven ? 1.3f * uniform(random_) : 0.4f;
      for (int64_t block = 0; block < nkv; ++block) {
        bool keep = uniform(random_) < share;
        if (shape_.lists == Lists::kFull) keep = true;
        if (shape_.lists == Lists::kEmpty) keep = false;
        if (shape_.lists == Lists::kOne) keep = block == nkv / 2;
        if (shape_.lists == Lists::kLast) keep = block == nkv - 1;
        kept[list * nkv + block] = keep;
        if (keep) index[list * nkv + count[list]++] = static_cast<int32_t>(block);
      }
    }
  }

  AttentionResult exact() const {
    return attend([](double value) { return value; });
  }
  AttentionResult plain() const {
    return attend([dtype = shape_.dtype](double value) -> double { return rounded(dtype, value); });
  }

  // A call without its memory.
  BlockSparseAttentionParams sizes() const {
    BlockSparseAttentionParams p{};
    p.residual_type = shape_.residual;
    p.batch = shape_.batch;
    p.heads = shape_.heads;
    p.head_dim = shape_.head_dim;
    p.num_context = shape_.num_context;
    p.num_video = shape_.num_video;
    p.max_kv = shape_.kv_blocks();
    p.q_block_size = 128;
    p.kv_block_size = shape_.kv_block_size;
    p.tail_block_size = shape_.tail_block_size;
    p.softmax_scale = softmax_scale();
    return p;
  }

  float softmax_scale() const { return 1.f / std::sqrt(static_cast<float>(shape_.head_dim)); }

  // Raster order [B, H, S, D], carved [B, H, P + N, D], tails [B, H, nc, D]; every value is exact in the dtype.
  std::vector<float> q, k, v, k_carved, v_carved, k_tail, v_tail;
  std::vector<int32_t> token_index, index, count;  // index [B, H, nq, nkv]
  std::vector<uint8_t> kept;                       // [B, H, nq, nkv]
  std::vector<float> context_bias;                 // [B, P] or empty
  std::vector<double> residual;                    // [B, S, H, D] or empty
  std::vector<uint8_t> residual_bytes;             // as the kernel reads it
  std::vector<float> residual_scale;               // [B, S, H] or empty
  std::vector<float> tail_bias;                    // [B, H, nc] or empty

 private:
  std::vector<float> normal(int64_t size) {
    std::normal_distribution<float> distribution;
    std::vector<float> values(size);
    for (float& value : values) value = rounded(shape_.dtype, distribution(random_));
    return values;
  }

  std::vector<float> carve(const std::vector<float>& raster) const {
    const int64_t channels = shape_.head_dim, rows = shape_.carved_rows();
    std::vector<float> carved(shape_.batch * shape_.heads * rows * channels, 0.f);
    for (int64_t head = 0; head < shape_.batch * shape_.heads; ++head) {
      for (int64_t i = 0; i < shape_.tokens(); ++i) {
        const int64_t row = i < shape_.num_context ? i : i - shape_.num_context + shape_.padded_context();
        std::copy_n(&raster[(head * shape_.tokens() + token_index[i]) * channels], channels,
                    &carved[(head * rows + row) * channels]);
      }
    }
    return carved;
  }

  std::vector<float> cell_means(const std::vector<float>& carved) const {
    const int64_t channels = shape_.head_dim, cells = shape_.tail_cells(), rows = shape_.carved_rows();
    std::vector<float> means(shape_.batch * shape_.heads * cells * channels);
    for (int64_t head = 0; head < shape_.batch * shape_.heads; ++head) {
      for (int64_t cell = 0; cell < cells; ++cell) {
        for (int64_t channel = 0; channel < channels; ++channel) {
          double sum = 0;
          for (int64_t i = 0; i < cell_size(cell); ++i) {
            const int64_t row = shape_.padded_context() + cell * shape_.tail_block_size + i;
            sum += carved[(head * rows + row) * channels + channel];
          }
          means[(head * cells + cell) * channels + channel] = rounded(shape_.dtype, sum / cell_size(cell));
        }
      }
    }
    return means;
  }

  int64_t cell_size(int64_t cell) const {
    return std::min(shape_.tail_block_size, shape_.num_video - cell * shape_.tail_block_size);
  }

  void empty_sink() {
    const int64_t tokens = shape_.tokens(), channels = shape_.head_dim;
    for (size_t i = 0; i < v.size(); ++i)
      v[i] = static_cast<int64_t>(i) / channels % tokens == token_index[0] ? 0.f : rounded(shape_.dtype, v[i] + 60.f);
  }

  void make_bias() {
    if (shape_.bias == Bias::kNone) return;
    std::normal_distribution<float> distribution;
    const int64_t padded = shape_.padded_context();
    context_bias.assign(shape_.batch * padded, -std::numeric_limits<float>::infinity());
    const int64_t open = shape_.bias == Bias::kMasked ? shape_.num_context / 3 : shape_.num_context;
    for (int64_t b = 0; b < shape_.batch; ++b) {
      for (int64_t i = 0; i < open; ++i) context_bias[b * padded + i] = distribution(random_);
      if (shape_.bias == Bias::kSink) context_bias[b * padded] = 13.f;
    }
  }

  void make_tail_bias() {
    if (!shape_.tail_bias) return;
    std::uniform_real_distribution<float> uniform(2.f, 6.f);
    tail_bias.resize(shape_.batch * shape_.heads * shape_.tail_cells());
    for (float& bias : tail_bias) bias = uniform(random_);
  }

  void make_residual() {
    if (shape_.residual == ResidualType::kNone) return;
    const int64_t rows = shape_.batch * shape_.tokens() * shape_.heads, size = rows * shape_.head_dim;
    residual.resize(size);
    if (shape_.residual == ResidualType::kFloat32 || shape_.residual == ResidualType::kBFloat16 ||
        shape_.residual == ResidualType::kFloat16) {
      std::normal_distribution<float> distribution;
      const bool wide = shape_.residual == ResidualType::kFloat32;
      const DataType dtype = shape_.residual == ResidualType::kBFloat16 ? DataType::kBFloat16 : DataType::kFloat16;
      residual_bytes.resize(size * (wide ? 4 : 2));
      for (int64_t i = 0; i < size; ++i) {
        const float value = wide ? distribution(random_) : rounded(dtype, distribution(random_));
        residual[i] = value;
        if (wide) {
          std::copy_n(reinterpret_cast<const uint8_t*>(&value), 4, &residual_bytes[i * 4]);
        } else {
          const uint16_t bits = encode(dtype, value);
          std::copy_n(reinterpret_cast<const uint8_t*>(&bits), 2, &residual_bytes[i * 2]);
        }
      }
      return;
    }
    const bool nibbles = shape_.residual == ResidualType::kInt4;
    const int limit = nibbles ? 7 : 127;
    std::uniform_int_distribution<int> code(-limit, limit);
    std::uniform_real_distribution<float> scale(0.f, 1.f / limit);
    residual_scale.resize(rows);
    residual_bytes.assign(nibbles ? size / 2 : size, 0);
    for (int64_t i = 0; i < size; ++i) {
      float& row_scale = residual_scale[i / shape_.head_dim];
      if (i % shape_.head_dim == 0) row_scale = scale(random_);
      const int value = code(random_);
      residual[i] = static_cast<double>(value) * row_scale;
      if (nibbles) {
        residual_bytes[i / 2] |= static_cast<uint8_t>((value & 15) << (i % 2 * 4));
      } else {
        residual_bytes[i] = static_cast<uint8_t>(value);
      }
    }
  }

  template <class Round>
  AttentionResult attend(Round round) const {
    AttentionResult result;
    result.out.resize(q.size());
    result.lse.resize(q.size() / shape_.head_dim);
    for (int64_t head = 0; head < shape_.batch * shape_.heads; ++head) {
      for (int64_t row = 0; row < shape_.tokens(); ++row) attend_row(head, row, round, result);
    }
    return result;
  }

  // row counts in carved order without the gap.
  template <class Round>
  void attend_row(int64_t head, int64_t row, Round round, AttentionResult& result) const {
    const int64_t channels = shape_.head_dim, token = token_index[row], num_context = shape_.num_context;
    const int64_t carved_first = head * shape_.carved_rows(), cell_first = head * shape_.tail_cells();
    const bool is_context = row < num_context;
    const int64_t list = head * shape_.q_blocks() + (row - num_context) / 128;
    const float* query = &q[(head * shape_.tokens() + token) * channels];
    std::vector<double> logits;
    std::vector<const float*> values;
    auto add = [&](const float* key, const float* value, double bias) {
      if (bias == -std::numeric_limits<double>::infinity()) return;
      double dot = 0;
      for (int64_t c = 0; c < channels; ++c) dot += static_cast<double>(query[c]) * key[c];
      logits.push_back(round(round(round(dot) * softmax_scale()) + bias));
      values.push_back(value);
    };
    for (int64_t i = 0; i < num_context; ++i) {
      double bias = context_bias.empty() ? 0. : context_bias[head / shape_.heads * shape_.padded_context() + i];
      if (is_context && std::isfinite(bias)) bias = 0;
      add(&k_carved[(carved_first + i) * channels], &v_carved[(carved_first + i) * channels], bias);
    }
    for (int64_t i = 0; i < shape_.num_video; ++i) {
      if (!is_context && !kept[list * shape_.kv_blocks() + i / shape_.kv_block_size]) continue;
      const int64_t carved = (carved_first + shape_.padded_context() + i) * channels;
      add(&k_carved[carved], &v_carved[carved], 0);
    }
    for (int64_t cell = 0; cell < (is_context ? 0 : shape_.tail_cells()); ++cell) {
      if (kept[list * shape_.kv_blocks() + cell * shape_.tail_block_size / shape_.kv_block_size]) continue;
      add(&k_tail[(cell_first + cell) * channels], &v_tail[(cell_first + cell) * channels],
          tail_bias.empty() ? std::log(static_cast<double>(cell_size(cell))) : tail_bias[cell_first + cell]);
    }
    double max = -std::numeric_limits<double>::infinity(), sum = 0;
    for (double logit : logits) max = std::max(max, logit);
    for (double logit : logits) sum += std::exp(logit - max);
    std::vector<double> out(channels, 0.);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double probability = round(std::exp(logits[i] - max) / sum);
      for (int64_t c = 0; c < channels; ++c) out[c] += probability * values[i][c];
    }
    const int64_t b = head / shape_.heads, h = head % shape_.heads;
    for (int64_t c = 0; c < channels; ++c) {
      double value = round(out[c]);
      if (!residual.empty())
        value = round(value + residual[((b * shape_.tokens() + token) * shape_.heads + h) * channels + c]);
      result.out[(head * shape_.tokens() + token) * channels + c] = value;
    }
    result.lse[head * shape_.tokens() + token] = logits.empty() ? max : max + std::log(sum);
  }

  AttentionCase shape_;
  std::mt19937 random_;
};

}  // namespace jenga::testing
