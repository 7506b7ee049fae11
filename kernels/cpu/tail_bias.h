// What a dropped tail cell counts as, for any tier (include after attention.h, for its kLog2E). A work item is some
// tail cells of one head; vectors run over channels for the scores, and over the sampled query cells for what is made
// of them.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/params.h"

namespace jenga::cpu {
namespace {

inline constexpr int64_t kItemTailCells = 64;
inline constexpr int64_t kMostParts = 8;  // key cells of a tail cell
inline constexpr float kLogOf2 = 0.69314718055994530942f;
static_assert(kSampledCells % kWidth == 0);

// The sampled query cells of one head, zeros behind the last channel and cell.
struct SampledQueries {
  alignas(64) float rows[kSampledCells][kMaxHeadDim];
  int64_t padded;  // channels

  SampledQueries(const TailBiasParams& p, int64_t head) : padded(round_up(p.head_dim, kWidth)) {
    std::memset(rows, 0, sizeof rows);
    for (int64_t i = 0; i < p.num_sampled(); ++i) {
      const int64_t row = head * p.num_q_cells + p.sampled_cell(i);
      load_row(rows[i], at(p.q_means, row * p.head_dim, p.dtype), p.dtype, p.head_dim);
    }
  }

  // scores[i] = scale <q, k>.
  void score(const float* k, float scale, float* scores) const {
    for (int64_t i = 0; i < kSampledCells; ++i) {
      Vec sums = {};
      for (int64_t d = 0; d < padded; d += kWidth) sums = madd(load(rows[i] + d), load(k + d), sums);
      scores[i] = scale * sum(sums);
    }
  }
};

// Mean over sampled cells of the log2 of the weight of `parts` key cells over that of their mean key; scores in base 2.
inline float mean_log2_count(const float (&scores)[kMostParts][kSampledCells], const float* tokens, int64_t parts,
                             int64_t sampled) {
  float count = 0, mean = 0;
  for (int64_t i = 0; i < parts; ++i) count += tokens[i];
  alignas(64) float of_cell[kSampledCells];
  for (int64_t a = 0; a < kSampledCells; a += kWidth) {
    Vec top = load(scores[0] + a), weight = {}, middle = {};
    for (int64_t i = 1; i < parts; ++i) top = vmax(top, load(scores[i] + a));
    for (int64_t i = 0; i < parts; ++i) {
      const Vec score = load(scores[i] + a);
      weight = madd(exp2_precise(score - top), set1(tokens[i]), weight);
      middle = madd(score - top, set1(tokens[i] / count), middle);
    }
    alignas(64) float weights[kWidth];
    store(weights, weight);
    store(of_cell + a, set1(0.0f) - middle);
    for (int i = 0; i < kWidth; ++i) of_cell[a + i] += std::log2(weights[i]);
  }
  for (int64_t a = 0; a < sampled; ++a) mean += of_cell[a];
  return mean / static_cast<float>(sampled);
}

void tail_bias_range(int64_t begin, int64_t end, void* context) {
  const auto& p = *static_cast<const TailBiasParams*>(context);
  const int64_t cells = p.num_tail_cells(), items = ceil_div(cells, kItemTailCells);
  const int64_t parts = p.tail_block_size / p.k_cell_size;
  const float scale = p.softmax_scale * kLog2E;
  alignas(64) float k[kMaxHeadDim] = {};
  alignas(64) float scores[kMostParts][kSampledCells];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t head = item / items, first = item % items * kItemTailCells;
    const SampledQueries queries(p, head);
    for (int64_t cell = first; cell < std::min(first + kItemTailCells, cells); ++cell) {
      const int64_t first_part = cell * parts, number = std::min(parts, p.num_k_cells() - first_part);
      float tokens[kMostParts];
      for (int64_t i = 0; i < number; ++i) {
        const int64_t part = first_part + i, row = head * p.num_k_cells() + part;
        tokens[i] = static_cast<float>(std::min(p.k_cell_size, p.num_video - part * p.k_cell_size));
        load_row(k, at(p.k_means, row * p.head_dim, p.dtype), p.dtype, p.head_dim);
        queries.score(k, scale, scores[i]);
      }
      p.tail_bias[head * cells + cell] = kLogOf2 * mean_log2_count(scores, tokens, number, p.num_sampled());
    }
  }
}

void tail_bias(const TailBiasParams& params, ParallelFor parallel_for) {
  TailBiasParams p = params;
  const int64_t items = p.batch * p.heads * ceil_div(p.num_tail_cells(), kItemTailCells);
  parallel_for(0, items, 1, tail_bias_range, &p);
}

}  // namespace
}  // namespace jenga::cpu
