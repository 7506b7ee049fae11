#include "csrc/core/selection.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

namespace jenga::core {

std::vector<int32_t> select_row(std::span<const float> scores, int64_t min_blocks, float top_p,
                                std::span<const uint8_t> forced) {
  if (!forced.empty() && forced.size() != scores.size()) {
    throw std::invalid_argument("select_row: forced must have one entry per block, got " +
                                std::to_string(forced.size()) + " for " + std::to_string(scores.size()));
  }
  if (scores.empty()) return {};
  std::vector<int32_t> by_score(scores.size());
  std::iota(by_score.begin(), by_score.end(), 0);
  std::stable_sort(by_score.begin(), by_score.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });

  const float highest = scores[static_cast<size_t>(by_score[0])];
  float total = 0;
  for (const float score : scores) total += std::exp(score - highest);
  int64_t needed = 1;
  float mass = 0;
  for (const int32_t block : by_score) {
    mass += std::exp(scores[static_cast<size_t>(block)] - highest) / total;
    if (!(mass <= top_p)) break;
    ++needed;
  }
  const int64_t count = std::min<int64_t>(std::max(needed, min_blocks), static_cast<int64_t>(scores.size()));

  std::vector<uint8_t> kept(scores.size(), 0);
  for (int64_t i = 0; i < count; ++i) kept[static_cast<size_t>(by_score[static_cast<size_t>(i)])] = 1;
  std::vector<int32_t> blocks;
  for (size_t block = 0; block < kept.size(); ++block) {
    if (kept[block] || (!forced.empty() && forced[block])) blocks.push_back(static_cast<int32_t>(block));
  }
  return blocks;
}

}  // namespace jenga::core
