// What a dropped tail cell counts as, cell by cell (formula: kernels/params.h).
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/numeric.h"
#include "kernels/reference/reference.h"

namespace jenga::reference {
namespace {

double score(const TailBiasParams& p, int64_t q_row, int64_t k_row) {
  double sum = 0;
  for (int64_t d = 0; d < p.head_dim; ++d) {
    sum += static_cast<double>(load_element(p.q_means, q_row * p.head_dim + d, p.dtype)) *
           load_element(p.k_means, k_row * p.head_dim + d, p.dtype);
  }
  return p.softmax_scale * sum;
}

// Of one query cell and tail cell.
double log_count(const TailBiasParams& p, int64_t head, int64_t q_cell, int64_t tail_cell) {
  const int64_t parts = p.tail_block_size / p.k_cell_size, first = tail_cell * parts;
  const int64_t last = std::min(first + parts, p.num_k_cells());
  std::vector<double> scores, tokens;
  for (int64_t i = first; i < last; ++i) {
    scores.push_back(score(p, head * p.num_q_cells + q_cell, head * p.num_k_cells() + i));
    tokens.push_back(static_cast<double>(std::min(p.k_cell_size, p.num_video - i * p.k_cell_size)));
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double weight = 0, mean = 0, count = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    weight += tokens[i] * std::exp(scores[i] - top);
    mean += tokens[i] * scores[i];
    count += tokens[i];
  }
  return top + std::log(weight) - mean / count;
}

}  // namespace

void tail_bias(const TailBiasParams& p) {
  for (int64_t head = 0; head < p.batch * p.heads; ++head) {
    for (int64_t cell = 0; cell < p.num_tail_cells(); ++cell) {
      double sum = 0;
      for (int64_t i = 0; i < p.num_sampled(); ++i) sum += log_count(p, head, p.sampled_cell(i), cell);
      p.tail_bias[head * p.num_tail_cells() + cell] = static_cast<float>(sum / static_cast<double>(p.num_sampled()));
    }
  }
}

}  // namespace jenga::reference
