// kept_share against the reference, and the reference on lists whose share is known.
#include "kernels/cpu/kept_share.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/reference/reference.h"
#include "tests/cpp/kernels/kept_lists.h"

namespace jenga::test {
namespace {

class CpuKeptShare : public testing::TestWithParam<KeptCase> {};

TEST_P(CpuKeptShare, MatchesTheReference) {
  const KeptLists lists(GetParam());
  float want = NAN, got = NAN;
  reference::kept_share(lists.params(&want));
  cpu::kept_share(lists.params(&got));
  EXPECT_EQ(got, want);
}

INSTANTIATE_TEST_SUITE_P(Cases, CpuKeptShare, testing::ValuesIn(kKeptCases),
                         [](const auto& info) { return name_of(info.param); });

TEST(CpuKeptShareByHand, CountsTheTokensOfRaggedBlocks) {
  // 200 tokens: query blocks of 128 and 72 rows, key blocks of 64, 64, 64 and 8 keys.
  const std::vector<int32_t> index{0, 3, -1, 1, -1, -1}, count{2, 1};
  float share = NAN;
  const KeptShareParams params{.kv_block_index = index.data(),
                               .kv_block_count = count.data(),
                               .kept_share = &share,
                               .batch = 1,
                               .heads = 1,
                               .num_video = 200,
                               .max_kv = 3,
                               .kv_block_size = 64};
  for (const auto kept_share : {reference::kept_share, cpu::kept_share}) {
    kept_share(params);
    EXPECT_EQ(share, (128 * (64 + 8) + 72 * 64) / 40000.f);
  }
}

}  // namespace
}  // namespace jenga::test
