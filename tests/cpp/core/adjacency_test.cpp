#include "csrc/core/adjacency.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/cpp/core/published_grids.h"
#include "tests/cpp/core/refusal.h"

namespace jenga::core {
namespace {

constexpr int64_t kBlockSize = 128;

std::vector<uint8_t> adjacency(TokenGrid grid, CurveKind kind, int64_t block_size) {
  return block_adjacency(grid, curve_order(grid, kind), block_size);
}

// Every pair of tokens, from the definition.
std::vector<uint8_t> brute_force(TokenGrid grid, const std::vector<int32_t>& order, int64_t block_size) {
  const auto tokens = static_cast<int64_t>(order.size());
  const int64_t num_blocks = (tokens + block_size - 1) / block_size;
  std::vector<uint8_t> adjacent(num_blocks * num_blocks, 0);
  for (int64_t i = 0; i < tokens; ++i) {
    for (int64_t j = 0; j < tokens; ++j) {
      const int64_t dx = order[i] % grid.w - order[j] % grid.w;
      const int64_t dy = order[i] / grid.w % grid.h - order[j] / grid.w % grid.h;
      const int64_t dz = order[i] / (grid.w * grid.h) - order[j] / (grid.w * grid.h);
      if (std::max({std::abs(dx), std::abs(dy), std::abs(dz)}) <= 1) {
        adjacent[i / block_size * num_blocks + j / block_size] = 1;
      }
    }
  }
  return adjacent;
}

class AdjacencyConformance : public ::testing::TestWithParam<ConformanceRow> {};
TEST_P(AdjacencyConformance, AdjacentPairs) {
  const auto [grid, kind, crc, pairs, first, last] = GetParam();
  const std::vector<uint8_t> adjacent = adjacency(grid, kind, kBlockSize);
  EXPECT_EQ(std::accumulate(adjacent.begin(), adjacent.end(), int64_t{0}), pairs);
}
INSTANTIATE_TEST_SUITE_P(PublishedGrids, AdjacencyConformance, ::testing::ValuesIn(kConformance));

class Degrees : public ::testing::TestWithParam<DegreeRow> {};
TEST_P(Degrees, MatchThePublishedTable) {
  const DegreeRow& row = GetParam();
  const std::vector<uint8_t> adjacent = adjacency(row.grid, row.kind, kBlockSize);
  const int64_t num_blocks = row.num_blocks;
  ASSERT_EQ(static_cast<int64_t>(adjacent.size()), num_blocks * num_blocks);
  std::vector<int64_t> degree(num_blocks);
  for (int64_t i = 0; i < num_blocks; ++i) {
    degree[i] = std::accumulate(&adjacent[i * num_blocks], &adjacent[i * num_blocks] + num_blocks, int64_t{0});
  }
  const auto pairs = static_cast<double>(std::accumulate(degree.begin(), degree.end(), int64_t{0}));
  const auto n = static_cast<double>(num_blocks);
  EXPECT_EQ(*std::min_element(degree.begin(), degree.end()), row.min);
  EXPECT_EQ(*std::max_element(degree.begin(), degree.end()), row.max);
  // Half of the last printed digit.
  EXPECT_NEAR(pairs / n, row.mean, 0.005 + 1e-9);
  EXPECT_NEAR(100 * pairs / (n * n), row.density_percent, 0.005 + 1e-9);
}
INSTANTIATE_TEST_SUITE_P(PublishedGrids, Degrees, ::testing::ValuesIn(kDegrees));

TEST(BlockAdjacency, EqualsBruteForce) {
  for (const TokenGrid& grid : {TokenGrid{1, 1, 1}, {3, 5, 7}, {4, 4, 4}, {1, 9, 11}, {7, 1, 5}, {2, 6, 1}}) {
    for (const CurveKind kind : {CurveKind::kGilbert3d, CurveKind::kGilbert2dSliced, CurveKind::kRaster}) {
      for (const int64_t block_size : {1, 4, 7, 64, 1000}) {
        EXPECT_EQ(adjacency(grid, kind, block_size), brute_force(grid, curve_order(grid, kind), block_size))
            << grid << " blocks of " << block_size;
      }
    }
  }
}

TEST(BlockAdjacency, RefusesWrongArguments) {
  const std::vector<int32_t> order = curve_order({2, 3, 4}, CurveKind::kRaster);
  const auto refusal = [](TokenGrid grid, std::vector<int32_t> order, int64_t block_size, const char* text) {
    expect_refusal([&] { block_adjacency(grid, order, block_size); }, text);
  };
  refusal({2, 3, 4}, order, 0, "block_adjacency: block_size must be positive, got 0");
  refusal({2, 3, 5}, order, 8, "block_adjacency: order must have t * h * w = 30 entries, got 24");
  refusal({2, 0, 5}, order, 8, "block_adjacency: h must be positive, got 0");
  refusal({1, 1, 2}, {0, 0}, 8, "curve_rank: order must be a permutation of 0 .. 1, got 0 at position 1");
}

}  // namespace
}  // namespace jenga::core
