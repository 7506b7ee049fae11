#include "csrc/core/curve.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>

#include "tests/cpp/core/gilbert_query.h"
#include "tests/cpp/core/published_grids.h"
#include "tests/cpp/core/refusal.h"

namespace jenga::core {
namespace {

constexpr CurveKind kEveryKind[] = {CurveKind::kGilbert3d, CurveKind::kGilbert2dSliced, CurveKind::kRaster};

uint32_t crc32_little_endian(const std::vector<int32_t>& values) {
  uint32_t crc = 0xffffffff;
  for (const int32_t value : values) {
    for (int byte = 0; byte < 4; ++byte) {
      crc ^= static_cast<uint32_t>(value) >> (8 * byte) & 0xff;
      for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
    }
  }
  return ~crc;
}

// How often each L1 distance lies between neighbours on the curve.
std::map<int64_t, int64_t> step_lengths(TokenGrid grid, const std::vector<int32_t>& order) {
  std::map<int64_t, int64_t> count;
  const auto [t, h, w] = grid;
  for (size_t i = 1; i < order.size(); ++i) {
    const int64_t from = order[i - 1], to = order[i];
    ++count[std::abs(from % w - to % w) + std::abs(from / w % h - to / w % h) +
            std::abs(from / (w * h) - to / (w * h))];
  }
  return count;
}

void expect_permutation(TokenGrid grid, CurveKind kind) {
  std::vector<int32_t> order = curve_order(grid, kind);
  ASSERT_EQ(static_cast<int64_t>(order.size()), grid.t * grid.h * grid.w) << grid;
  std::sort(order.begin(), order.end());
  for (size_t i = 0; i < order.size(); ++i) ASSERT_EQ(order[i], static_cast<int32_t>(i)) << grid;
}

class CurveConformance : public ::testing::TestWithParam<ConformanceRow> {};

TEST_P(CurveConformance, OrderMatchesThePublishedOne) {
  const ConformanceRow& row = GetParam();
  const std::vector<int32_t> order = curve_order(row.grid, row.kind);
  EXPECT_EQ(crc32_little_endian(order), row.crc);
  EXPECT_EQ(std::vector<int32_t>(order.begin(), order.begin() + 8), row.first);
  EXPECT_EQ(order.back(), row.last);
}

INSTANTIATE_TEST_SUITE_P(PublishedGrids, CurveConformance, ::testing::ValuesIn(kConformance));

TEST(CurveOrder, WalkEqualsPointQueriesOnEverySmallGrid) {
  for (int64_t t = 1; t <= 9; ++t) {
    for (int64_t h = 1; h <= 9; ++h) {
      for (int64_t w = 1; w <= 9; ++w) {
        ASSERT_EQ(curve_order({t, h, w}, CurveKind::kGilbert3d), queried_order({t, h, w}, halve_down))
            << TokenGrid{t, h, w};
      }
    }
  }
}

// Truncating where the method floors gives another curve on a fifth to a third of all grids; a big preset is among
// them.
TEST(CurveOrder, TruncatingDivisionGivesAnotherOrder) {
  int64_t different = 0;
  for (int64_t t = 1; t <= 9; ++t) {
    for (int64_t h = 1; h <= 9; ++h) {
      for (int64_t w = 1; w <= 9; ++w) {
        different += queried_order({t, h, w}, halve_towards_zero) != queried_order({t, h, w}, halve_down);
      }
    }
  }
  EXPECT_EQ(different, 133) << "of 729 grids";
  const TokenGrid preset{32, 45, 80};
  EXPECT_NE(curve_order(preset, CurveKind::kGilbert3d), queried_order(preset, halve_towards_zero));
}

TEST(CurveOrder, OddSidesCostDiagonalSteps) {
  const auto lengths = [](TokenGrid grid) { return step_lengths(grid, curve_order(grid, CurveKind::kGilbert3d)); };
  EXPECT_EQ(lengths({32, 45, 80}), (std::map<int64_t, int64_t>{{1, 115200 - 1 - 208}, {2, 208}}));
  EXPECT_EQ(lengths({32, 22, 40}), (std::map<int64_t, int64_t>{{1, 28160 - 1}}));
  EXPECT_EQ(lengths({32, 68, 52}), (std::map<int64_t, int64_t>{{1, 113152 - 1}}));
}

TEST(CurveOrder, SlicedCurveHasNoJumpAtTheBigPreset) {
  const TokenGrid grid{21, 45, 80};
  const auto lengths = step_lengths(grid, curve_order(grid, CurveKind::kGilbert2dSliced));
  EXPECT_LE(lengths.rbegin()->first, 2);
}

TEST(CurveOrder, SlicedCurveFinishesAFrameBeforeTheNext) {
  const TokenGrid grid{5, 7, 9};
  const std::vector<int32_t> order = curve_order(grid, CurveKind::kGilbert2dSliced);
  for (size_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i] / 63, static_cast<int32_t>(i / 63));
}

TEST(CurveOrder, RasterIsTheIdentity) {
  const std::vector<int32_t> order = curve_order({2, 3, 4}, CurveKind::kRaster);
  for (size_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i], static_cast<int32_t>(i));
}

TEST(CurveOrder, PermutationOnAwkwardGrids) {
  const TokenGrid grids[] = {{1, 1, 1},    {1, 1, 100003}, {100003, 1, 1}, {1, 100003, 1}, {2, 3, 9973},
                             {9973, 2, 3}, {3, 9973, 2},   {31, 37, 41},   {1, 2, 2},      {97, 1, 101}};
  for (const TokenGrid& grid : grids) {
    for (const CurveKind kind : kEveryKind) expect_permutation(grid, kind);
  }
}

TEST(CurveOrder, RefusesEmptyAndOversizedGrids) {
  const auto refusal = [](TokenGrid grid, const char* text) {
    for (const CurveKind kind : kEveryKind) {
      expect_refusal([&] { curve_order(grid, kind); }, text);
    }
  };
  refusal({0, 4, 4}, "curve_order: t must be positive, got 0");
  refusal({4, -1, 4}, "curve_order: h must be positive, got -1");
  refusal({4, 4, 0}, "curve_order: w must be positive, got 0");
  refusal({1 << 16, 1 << 15, 1}, "curve_order: t * h * w must be at most 2147483647, got 65536 * 32768 * 1");
  const int64_t huge = std::numeric_limits<int64_t>::max();
  refusal({huge, huge, huge}, "curve_order: t * h * w must be at most 2147483647");
}

TEST(CurveRank, InvertsTheOrder) {
  const std::vector<int32_t> order = curve_order({5, 6, 7}, CurveKind::kGilbert3d);
  const std::vector<int32_t> rank = curve_rank(order);
  for (size_t i = 0; i < order.size(); ++i) EXPECT_EQ(rank[order[i]], static_cast<int32_t>(i));
}

TEST(CurveRank, RefusesWhatIsNoPermutation) {
  const auto refusal = [](std::vector<int32_t> order, const char* text) {
    expect_refusal([&] { curve_rank(order); }, text);
  };
  refusal({0, 1, 1}, "curve_rank: order must be a permutation of 0 .. 2, got 1 at position 2");
  refusal({0, 3, 1}, "curve_rank: order must be a permutation of 0 .. 2, got 3 at position 1");
  refusal({-1, 0, 1}, "curve_rank: order must be a permutation of 0 .. 2, got -1 at position 0");
  EXPECT_TRUE(curve_rank({}).empty());
}

TEST(CurveKindFromName, KnowsTheThreeNames) {
  EXPECT_EQ(curve_kind_from_name("gilbert3d"), CurveKind::kGilbert3d);
  EXPECT_EQ(curve_kind_from_name("gilbert2d_sliced"), CurveKind::kGilbert2dSliced);
  EXPECT_EQ(curve_kind_from_name("raster"), CurveKind::kRaster);
  EXPECT_EQ(curve_kind_from_name("hilbert"), std::nullopt);
  EXPECT_EQ(curve_kind_from_name(""), std::nullopt);
}

}  // namespace
}  // namespace jenga::core
