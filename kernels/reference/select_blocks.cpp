// Masses of the key blocks in fp64, their logarithms rounded once to fp32; the rule itself is csrc/core/selection.h.
#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "csrc/core/selection.h"
#include "kernels/numeric.h"
#include "kernels/reference/reference.h"

namespace jenga::reference {
namespace {

// Means of the coarse cells of one head, [num_coarse][D]: of their key cells, by tokens, rounded to the dtype.
std::vector<float> coarse_means(const SelectBlocksParams& p, int64_t head) {
  const int64_t cells = p.num_k_cells(), size = p.k_cell_size();
  std::vector<float> means(p.num_coarse() * p.head_dim);
  for (int64_t j = 0; j < p.num_coarse(); ++j) {
    const int64_t tokens = std::min(p.coarse_size(), p.num_video - j * p.coarse_size());
    for (int64_t d = 0; d < p.head_dim; ++d) {
      double sum = 0;
      for (int64_t c = j * p.cells_per_coarse(); c < std::min((j + 1) * p.cells_per_coarse(), cells); ++c) {
        const double weight = static_cast<double>(std::min(size, p.num_video - c * size));
        sum += weight * load_element(p.k_means, (head * cells + c) * p.head_dim + d, p.dtype);
      }
      float mean = 0;
      store_element(&mean, 0, p.dtype, static_cast<float>(sum / static_cast<double>(tokens)));
      means[j * p.head_dim + d] = load_element(&mean, 0, p.dtype);
    }
  }
  return means;
}

// softmax_scale <q, k> + log(tokens) for rows of k that stand for `size` tokens each, the last one for what is left.
template <typename Load>
std::vector<double> logits(const SelectBlocksParams& p, int64_t q_row, int64_t size, Load load) {
  std::vector<double> out(ceil_div(p.num_video, size));
  for (int64_t i = 0; i < static_cast<int64_t>(out.size()); ++i) {
    double sum = 0;
    for (int64_t d = 0; d < p.head_dim; ++d) {
      sum += static_cast<double>(load_element(p.q_means, q_row * p.head_dim + d, p.dtype)) * load(i * p.head_dim + d);
    }
    out[i] = p.softmax_scale * sum + std::log(static_cast<double>(std::min(size, p.num_video - i * size)));
  }
  return out;
}

// Adds what the cells of each key block get from one query cell, times its tokens.
void add_masses(const SelectBlocksParams& p, int64_t head, int64_t q_cell, const std::vector<float>& means,
                std::vector<double>& masses) {
  const int64_t cells = p.num_k_cells(), row = head * p.num_q_cells() + q_cell;
  const auto coarse = logits(p, row, p.coarse_size(), [&](int64_t i) { return means[i]; });
  const double top = *std::max_element(coarse.begin(), coarse.end());
  double total = 0;
  for (const double logit : coarse) total += std::exp(logit - top);
  const auto fine = logits(p, row, p.k_cell_size(),
                           [&](int64_t i) { return load_element(p.k_means, head * cells * p.head_dim + i, p.dtype); });
  const int64_t size = p.q_cell_size();
  const auto tokens = static_cast<double>(std::min(size, p.num_video - q_cell * size));
  for (int64_t c = 0; c < cells; ++c) masses[c / p.k_cells] += tokens * std::exp(fine[c] - top) / total;
}

}  // namespace

void select_blocks(const SelectBlocksParams& p) {
  const int64_t nq = p.num_q_blocks(), nkv = p.num_kv_blocks(), q_cells = p.num_q_cells();
  std::vector<float> scores(nkv);
  std::vector<float> means;
  for (int64_t row = 0; row < p.batch * p.heads * nq; ++row) {
    const int64_t head = row / nq, q_block = row % nq;
    if (q_block == 0) means = coarse_means(p, head);
    std::vector<double> masses(nkv, 0.0);
    for (int64_t a = q_block * p.q_cells; a < std::min((q_block + 1) * p.q_cells, q_cells); ++a) {
      add_masses(p, head, a, means, masses);
    }
    for (int64_t j = 0; j < nkv; ++j) scores[j] = static_cast<float>(std::log(masses[j]));
    const auto forced =
        p.adjacency ? std::span(p.adjacency + q_block * nkv, static_cast<size_t>(nkv)) : std::span<const uint8_t>();
    const std::vector<int32_t> kept = core::select_row(scores, p.min_blocks, p.top_p, forced);
    int32_t* out = p.kv_block_index + row * p.max_kv;
    std::fill(std::copy(kept.begin(), kept.end(), out), out + p.max_kv, -1);
    p.kv_block_count[row] = static_cast<int32_t>(kept.size());
  }
}

}  // namespace jenga::reference
