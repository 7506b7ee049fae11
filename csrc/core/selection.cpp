#include "csrc/core/selection.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

namespace jenga::core {
namespace {

[[noreturn]] void refuse(const std::string& argument, const std::string& condition, const std::string& value) {
  throw std::invalid_argument("select_row: " + argument + " must " + condition + ", got " + value);
}

}  // namespace

std::vector<int32_t> select_row(std::span<const float> scores, int64_t min_blocks, float top_p,
                                std::span<const uint8_t> forced) {
  const auto num_blocks = static_cast<int64_t>(scores.size());
  if (num_blocks == 0) refuse("scores", "have at least one entry", "none");
  for (const float score : scores) {
    if (!std::isfinite(score)) refuse("scores", "be finite", std::to_string(score));
  }
  if (!forced.empty() && forced.size() != scores.size()) {
    refuse("forced", "have as many entries as scores (" + std::to_string(num_blocks) + ")",
           std::to_string(forced.size()));
  }
  if (min_blocks < 1) refuse("min_blocks", "be at least 1", std::to_string(min_blocks));
  if (!(top_p >= 0)) refuse("top_p", "be at least 0", std::to_string(top_p));

  // Scores rank as their probabilities do, and keep apart what a rounded exp would tie.
  std::vector<int32_t> by_rank(num_blocks);
  std::iota(by_rank.begin(), by_rank.end(), 0);
  std::stable_sort(by_rank.begin(), by_rank.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });

  // Weights are compared with top_p times their sum instead of being divided by it: summed in the same order, no prefix
  // can exceed the whole, so top_p >= 1 keeps everything whatever the rounding.
  std::vector<double> mass(num_blocks);
  double total = 0;
  for (int64_t i = 0; i < num_blocks; ++i) {
    total += std::exp(static_cast<double>(scores[by_rank[i]]) - scores[by_rank[0]]);
    mass[i] = total;
  }
  const auto within = std::upper_bound(mass.begin(), mass.end(), top_p * total) - mass.begin();
  const int64_t need = std::min(num_blocks, std::max<int64_t>(min_blocks, 1 + within));

  std::vector<uint8_t> kept(num_blocks, 0);
  for (int64_t i = 0; i < need; ++i) kept[by_rank[i]] = 1;
  std::vector<int32_t> kv_block_index;
  for (int64_t i = 0; i < num_blocks; ++i) {
    if (kept[i] || (!forced.empty() && forced[i])) kv_block_index.push_back(static_cast<int32_t>(i));
  }
  return kv_block_index;
}

}  // namespace jenga::core
