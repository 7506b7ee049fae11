// Carved attention of one block of query rows, for any tier (include after simd.h and vector_math.h).
//
// For every unit of 64 keys: scores = Q K^T in register blocks of kRows x kScoreVecs; online softmax in base 2 (running
// maximum m, sum l, rescale alpha per row); then O = alpha O + P V in blocks of kRows x kValueVecs. The last rows take
// lower blocks, so that few are computed for nothing. The sums of a unit, of weights and of P V, start at zero and are
// folded into l and O once: rounding grows with the number of units and the length of one, not with the number of keys.
// Math decides what a 32-bit word holds.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/cpu/attention_plan.h"

namespace jenga::cpu {
namespace {

// Finite, so that m - m is 0 and not NaN in a row that has seen masked keys only.
constexpr float kNoMaximum = -1e30f;
constexpr float kLog2E = 1.44269504088896340736f;
constexpr int kUnitVecs = kUnitKeys / kWidth;
constexpr int kPanelKeys = kScoreVecs * kWidth;  // keys of a register block
constexpr int kFewRows = kRows < 4 ? kRows : 4;  // of the lower register block

template <class Math>
void pack_unit(const PackJob& job) {
  alignas(64) float row[kMaxHeadDim];
  const int64_t words = job.head_dim / Math::kPerWord;
  for (int64_t j = 0; j < kUnitKeys; ++j) {
    if (j >= job.rows) {
      std::memset(row, 0, words * sizeof(float));
    } else {
      Math::pack_query(row, at(job.k, j * job.k_stride, job.dtype), job.dtype, job.head_dim);
    }
    float* const column = job.k_unit + j / kPanelKeys * kPanelKeys * words + j % kPanelKeys;
    for (int64_t d = 0; d < words; ++d) column[d * kPanelKeys] = row[d];
  }
  if (!job.v_unit) return;
  const int64_t stride = round_up(job.head_dim, kChannelAlignment);
  for (int64_t j = 0; j < kUnitKeys; j += 2) {
    const void* rows[2];
    for (int i = 0; i < 2; ++i) rows[i] = j + i >= job.rows ? nullptr : at(job.v, (j + i) * job.v_stride, job.dtype);
    Math::pack_values(job.v_unit + j / Math::kPerWord * stride, stride, rows, job.dtype, job.head_dim);
  }
}

// panel[kHeight][64] = Q K^T for kHeight rows of q, summed in chains: a shorter one rounds less.
template <class Math, int kHeight>
inline void score_panel(float* panel, const float* q, const float* k, int64_t words) {
  const float* column = k;
  for (int key = 0; key < kUnitKeys; key += kPanelKeys) {
    for (int64_t first = 0; first < words; first += Math::kScoreChain) {
      const int64_t last = first + Math::kScoreChain < words ? first + Math::kScoreChain : words;
      Vec acc[kHeight][kScoreVecs] = {};
      for (int64_t d = first; d < last; ++d, column += kPanelKeys) {
        Vec b[kScoreVecs];
#pragma GCC unroll 8
        for (int c = 0; c < kScoreVecs; ++c) b[c] = load(column + c * kWidth);
#pragma GCC unroll 8
        for (int r = 0; r < kHeight; ++r) {
          const Vec a = Math::broadcast(q + r * words + d);
#pragma GCC unroll 8
          for (int c = 0; c < kScoreVecs; ++c) acc[r][c] = Math::dot(acc[r][c], a, b[c]);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kHeight; ++r) {
#pragma GCC unroll 8
        for (int c = 0; c < kScoreVecs; ++c) {
          float* const sum = panel + r * kUnitKeys + key + c * kWidth;
          store(sum, first == 0 ? acc[r][c] : load(sum) + acc[r][c]);
        }
      }
    }
  }
}

// Scores to weights: panel rows become exp2(score - m), m and l move on, alpha is what older sums shrink by. Without a
// bias the scale enters with the subtraction, in one rounding.
template <class Math, int kHeight, bool kBias>
inline void softmax_panel(float* panel, const float* bias, float scale, float* m, float* l, float* alpha) {
  alignas(64) float top_now[kWidth] = {};
  for (int r = 0; r < kHeight; ++r) {
    float* row = panel + r * kUnitKeys;
    Vec x[kUnitVecs];
#pragma GCC unroll 16
    for (int c = 0; c < kUnitVecs; ++c) {
      x[c] = load(row + c * kWidth);
      if constexpr (kBias) {
        x[c] = madd(x[c], set1(scale), load(bias + c * kWidth));
        store(row + c * kWidth, x[c]);
      }
    }
#pragma GCC unroll 8
    for (int width = kUnitVecs / 2; width > 0; width /= 2) {
#pragma GCC unroll 8
      for (int c = 0; c < width; ++c) x[c] = vmax(x[c], x[c + width]);
    }
    const float row_top = kBias ? top(x[0]) : top(x[0]) * scale;
    top_now[r] = row_top > m[r] ? row_top : m[r];
  }
  alignas(64) float shrink[kWidth];
  store(shrink, Math::exp2(load(m) - load(top_now)));
  for (int r = 0; r < kHeight; ++r) {
    float* row = panel + r * kUnitKeys;
    const Vec shift = set1(-top_now[r]);
    Vec mass = {};
#pragma GCC unroll 16
    for (int c = 0; c < kUnitVecs; ++c) {
      const Vec score = load(row + c * kWidth);
      const Vec weight = Math::exp2(kBias ? score + shift : madd(score, set1(scale), shift));
      store(row + c * kWidth, weight);
      mass = mass + weight;
    }
    store(l + r * kWidth, madd(load(l + r * kWidth), set1(shrink[r]), mass));
    m[r] = top_now[r];
    alpha[r] = shrink[r];
  }
}

// o[kHeight][kVecs] = alpha o + P V over the words of one unit.
template <class Math, int kHeight, int kVecs>
inline void accumulate_panel(float* o, int64_t o_stride, const float* alpha, const float* p, const float* v,
                             int64_t v_stride, int64_t words) {
  Vec acc[kHeight][kVecs] = {};
  for (int64_t u = 0; u < words; ++u, v += v_stride) {
    Vec b[kVecs];
#pragma GCC unroll 8
    for (int c = 0; c < kVecs; ++c) b[c] = load(v + c * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kHeight; ++r) {
      const Vec a = Math::broadcast(p + r * (kUnitKeys / Math::kPerWord) + u);
#pragma GCC unroll 8
      for (int c = 0; c < kVecs; ++c) acc[r][c] = Math::dot(acc[r][c], a, b[c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kHeight; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kVecs; ++c) {
      float* const sum = o + r * o_stride + c * kWidth;
      store(sum, madd(load(sum), set1(alpha[r]), acc[r][c]));
    }
  }
}

template <class Math, int kHeight>
inline void accumulate_channels(int64_t vecs, float* o, int64_t o_stride, const float* alpha, const float* p,
                                const float* v, int64_t v_stride, int64_t words) {
  if constexpr (kValueVecs >= 4) {
    if (vecs == 4) return accumulate_panel<Math, kHeight, 4>(o, o_stride, alpha, p, v, v_stride, words);
    if (vecs == 3) return accumulate_panel<Math, kHeight, 3>(o, o_stride, alpha, p, v, v_stride, words);
  }
  if (vecs == 2) return accumulate_panel<Math, kHeight, 2>(o, o_stride, alpha, p, v, v_stride, words);
  accumulate_panel<Math, kHeight, 1>(o, o_stride, alpha, p, v, v_stride, words);
}

// Per row: divide by the mass, add the residual, round, store where the token is.
template <class Math>
void store_rows(const AttendJob& job, const float* o, const float* m, const float* l) {
  const BlockSparseAttentionParams& p = *job.params;
  const int64_t tokens = p.num_context + p.num_video, stride = round_up(p.head_dim, kChannelAlignment);
  alignas(64) float row[kMaxHeadDim];
  for (int64_t r = 0; r < job.rows; ++r) {
    const int64_t token = p.token_index[job.first_row + r];
    const float mass = sum(load(l + r * kWidth));
    const bool nothing = mass == 0.0f;
    const Vec inverse = set1(nothing ? 0.0f : 1.0f / mass);
    for (int64_t d = 0; d < stride; d += kWidth) store(row + d, load(o + r * stride + d) * inverse);
    p.lse[(job.batch * p.heads + job.head) * tokens + token] =
        nothing ? -std::numeric_limits<float>::infinity() : (m[r] + std::log2(mass)) * (1.0f / kLog2E);
    if (p.residual_type != ResidualType::kNone && p.residual) {
      const int64_t index = (job.batch * tokens + token) * p.heads + job.head;
      for (int64_t d = 0; d < p.head_dim; ++d) {
        row[d] += load_residual(p.residual, p.residual_scale, p.residual_type, index, p.head_dim, d);
      }
    }
    const Strides& strides = p.out.strides;
    const int64_t offset = job.batch * strides.batch + job.head * strides.head + token * strides.token;
    store_row(at(p.out.data, offset, p.out.dtype), row, p.out.dtype, p.head_dim);
  }
}

// work.operator()<height>(r) for groups that cover `rows`: of kRows, or of kFewRows where those end sooner.
template <class Work>
inline void for_row_groups(int64_t rows, Work work) {
  for (int64_t r = 0; r < rows;) {
    const int64_t left = rows - r;
    if (left <= 2 * kFewRows && round_up(left, kFewRows) < round_up(left, kRows)) {
      work.template operator()<kFewRows>(r);
      r += kFewRows;
    } else {
      work.template operator()<kRows>(r);
      r += kRows;
    }
  }
}

template <class Math>
void attend_block(const AttendJob& job) {
  const BlockSparseAttentionParams& p = *job.params;
  const int64_t words = p.head_dim / Math::kPerWord, weight_words = kUnitKeys / Math::kPerWord;
  const int64_t rows = round_up(job.rows, kRows), stride = round_up(p.head_dim, kChannelAlignment);
  float* const q = job.scratch;
  float* const o = q + round_up(rows * words, 16);
  float* const weights = o + rows * stride;
  float* const panel = weights + rows * weight_words;
  float* const l = panel + kRows * kUnitKeys;
  float* const m = l + rows * kWidth;  // kWidth more than rows: vectors start at any row group
  float* const alpha = m + rows + kWidth;

  const Operand& queries = p.q;
  const int64_t q_head = job.batch * queries.strides.batch + job.head * queries.strides.head;
  std::memset(q, 0, rows * words * sizeof(float));
  for (int64_t r = 0; r < job.rows; ++r) {
    const int64_t token = p.token_index[job.first_row + r];
    const void* const row = at(queries.data, q_head + token * queries.strides.token, queries.dtype);
    Math::pack_query(q + r * words, row, queries.dtype, p.head_dim);
  }
  std::memset(o, 0, rows * stride * sizeof(float));
  std::memset(l, 0, rows * kWidth * sizeof(float));
  for (int64_t r = 0; r < rows + kWidth; ++r) m[r] = kNoMaximum;

  const float scale = p.softmax_scale * kLog2E;
  const int64_t channel_vecs = stride / kWidth, channel_blocks = ceil_div(channel_vecs, kValueVecs);
  const int64_t block_vecs = ceil_div(channel_vecs, channel_blocks);
  for (int64_t t = 0; t < job.num_units; ++t) {
    const KeyUnit& unit = job.units[t];
    for_row_groups(job.rows, [&]<int kHeight>(int64_t r) {
      // A weight of one word is made where its score is.
      float* const scores = Math::kPerWord == 1 ? weights + r * weight_words : panel;
      score_panel<Math, kHeight>(scores, q + r * words, unit.k, words);
      if (unit.bias) {
        softmax_panel<Math, kHeight, true>(scores, unit.bias, scale, m + r, l + r * kWidth, alpha + r);
      } else {
        softmax_panel<Math, kHeight, false>(scores, nullptr, scale, m + r, l + r * kWidth, alpha + r);
      }
      if constexpr (Math::kPerWord > 1) Math::pack_weights(weights + r * weight_words, panel, kHeight * kUnitKeys);
    });
    const int64_t value_words = ceil_div(unit.keys, Math::kPerWord);
    for (int64_t c = 0; c < channel_vecs; c += block_vecs) {
      const int64_t vecs = channel_vecs - c < block_vecs ? channel_vecs - c : block_vecs;
      for_row_groups(job.rows, [&]<int kHeight>(int64_t r) {
        accumulate_channels<Math, kHeight>(vecs, o + r * stride + c * kWidth, stride, alpha + r,
                                           weights + r * weight_words, unit.v + c * kWidth, unit.v_stride, value_words);
      });
    }
  }
  store_rows<Math>(job, o, m, l);
}

// block_sparse_attention in fp32 arithmetic, whatever the dtype.
void fp32_attention(const BlockSparseAttentionParams& params, ParallelFor parallel_for) {
  if (params.q.dtype == DataType::kFloat32) {
    run_attention(params, parallel_for, {FloatMath::kPerWord, pack_unit<FloatMath>, attend_block<FloatMath>});
  } else {
    run_attention(params, parallel_for, {FloatMath::kPerWord, pack_unit<FloatMath>, attend_block<HalfMath>});
  }
}

}  // namespace
}  // namespace jenga::cpu
