#include "csrc/core/selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "tests/cpp/core/refusal.h"

namespace jenga::core {
namespace {

using Lists = std::vector<int32_t>;

std::vector<int32_t> every_block(int64_t n) {
  std::vector<int32_t> all(n);
  for (int64_t i = 0; i < n; ++i) all[i] = static_cast<int32_t>(i);
  return all;
}

// From the words of the rule: take the best block that is left, the lowest index first, until both conditions hold.
Lists brute_force(const std::vector<float>& scores, const std::vector<uint8_t>& forced, int64_t min_blocks,
                  long double top_p) {
  long double total = 0;
  for (const float score : scores) total += std::exp(static_cast<long double>(score));
  std::vector<bool> kept(scores.size(), false);
  long double mass = 0;
  for (size_t taken = 0; taken < scores.size(); ++taken) {
    const bool enough = taken >= static_cast<size_t>(min_blocks) && taken > 0 && mass / total > top_p;
    if (enough) break;
    size_t best = scores.size();
    for (size_t i = 0; i < scores.size(); ++i) {
      if (!kept[i] && (best == scores.size() || scores[i] > scores[best])) best = i;
    }
    kept[best] = true;
    mass += std::exp(static_cast<long double>(scores[best]));
  }
  Lists result;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (kept[i] || (!forced.empty() && forced[i])) result.push_back(static_cast<int32_t>(i));
  }
  return result;
}

TEST(SelectRow, EqualsBruteForce) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 2);
  std::bernoulli_distribution rarely(0.1);
  for (int round = 0; round < 300; ++round) {
    const int64_t n = 1 + round % 40;
    std::vector<float> scores(n);
    for (float& score : scores) {
      score = normal(random);
      if (round % 2) score = std::round(score);  // many ties
    }
    std::vector<uint8_t> forced;
    if (round % 3 == 0) {
      for (int64_t i = 0; i < n; ++i) forced.push_back(rarely(random));
    }
    for (const int64_t min_blocks : {int64_t{1}, n / 4 + 1, n, n + 5}) {
      for (const float top_p : {0.0f, 0.31f, 0.83f}) {
        ASSERT_EQ(select_row(scores, min_blocks, top_p, forced), brute_force(scores, forced, min_blocks, top_p))
            << "n " << n << " min_blocks " << min_blocks << " top_p " << top_p;
      }
    }
  }
}

TEST(SelectRow, TiesGoToTheLowerIndex) {
  EXPECT_EQ(select_row(std::vector<float>{1, 3, 2, 3, 2, 3}, 2, 0), (Lists{1, 3}));
  EXPECT_EQ(select_row(std::vector<float>{1, 3, 2, 3, 2, 3}, 4, 0), (Lists{1, 2, 3, 5}));
  EXPECT_EQ(select_row(std::vector<float>(40, 0.5f), 3, 0), (Lists{0, 1, 2}));
}

// Four equal blocks of mass 1/4, all exact in binary: a prefix that equals top_p takes one block more.
TEST(SelectRow, PrefixThatHitsTopPExactlyTakesOneMore) {
  const std::vector<float> scores(4, -1.5f);
  EXPECT_EQ(select_row(scores, 1, 0.5f), (Lists{0, 1, 2}));
  EXPECT_EQ(select_row(scores, 1, std::nextafter(0.5f, 0.0f)), (Lists{0, 1}));
  EXPECT_EQ(select_row(scores, 1, 0.25f), (Lists{0, 1}));
}

TEST(SelectRow, TopPOfOneOrMoreKeepsEverything) {
  std::vector<float> scores(37);
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = std::sin(static_cast<float>(i));
  scores[3] = -1000;  // its mass vanishes beside the others
  for (const float top_p : {1.0f, 1.5f, std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(select_row(scores, 1, top_p), every_block(37)) << top_p;
  }
}

TEST(SelectRow, WithoutTopPExactlyTheFloorIsKept) {
  const std::vector<float> scores = {0.1f, 100, 0.2f, 0.3f};
  EXPECT_EQ(select_row(scores, 1, 0), (Lists{1}));
  EXPECT_EQ(select_row(scores, 3, 0), (Lists{1, 2, 3}));
  EXPECT_EQ(select_row(scores, 99, 0), every_block(4));
}

TEST(SelectRow, ForcedBlocksComeOnTop) {
  const std::vector<float> scores = {5, 4, 3, 2, 1};
  EXPECT_EQ(select_row(scores, 2, 0, std::vector<uint8_t>{1, 0, 0, 0, 1}), (Lists{0, 1, 4}));
  EXPECT_EQ(select_row(scores, 2, 0, std::vector<uint8_t>(5, 0)), (Lists{0, 1}));
}

TEST(SelectRow, LargeScoresDoNotOverflow) {
  EXPECT_EQ(select_row(std::vector<float>{3e38f, -3e38f, 3e38f}, 1, 0.4f), (Lists{0}));
  EXPECT_EQ(select_row(std::vector<float>{3e38f, -3e38f, 3e38f}, 1, 0.6f), (Lists{0, 2}));
}

TEST(SelectRow, RefusesWrongArguments) {
  const auto refusal = [](std::vector<float> scores, std::vector<uint8_t> forced, int64_t min_blocks, float top_p,
                          const char* text) {
    expect_refusal([&] { select_row(scores, min_blocks, top_p, forced); }, text);
  };
  refusal({}, {}, 1, 0, "select_row: scores must have at least one entry, got none");
  refusal({1, NAN}, {}, 1, 0, "select_row: scores must be finite, got nan");
  refusal({1, INFINITY}, {}, 1, 0, "select_row: scores must be finite, got inf");
  refusal({1, 2}, {1}, 1, 0, "select_row: forced must have as many entries as scores (2), got 1");
  refusal({1, 2}, {}, 0, 0, "select_row: min_blocks must be at least 1, got 0");
  refusal({1, 2}, {}, 1, -0.5f, "select_row: top_p must be at least 0, got -0.5");
  refusal({1, 2}, {}, 1, NAN, "select_row: top_p must be at least 0, got nan");
}

}  // namespace
}  // namespace jenga::core
