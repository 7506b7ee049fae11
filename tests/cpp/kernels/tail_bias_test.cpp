// What a dropped tail cell counts as, on every tier, against the fp64 reference.
#include <gtest/gtest.h>

#include "kernels/cpu/dispatch.h"
#include "tests/cpp/kernels/cases.h"
#include "tests/cpp/kernels/tail_cells.h"

namespace jenga::test {
namespace {

class CpuTailBias : public testing::TestWithParam<TailCase> {};

TEST_P(CpuTailBias, MatchesReferenceOnEveryTier) {
  const TailCells cells(GetParam());
  std::vector<float> want = cells.unwritten(), got = want;
  reference::tail_bias(cells.params(want.data()));
  for (const cpu::KernelTable* table : cpu::kernel_tables()) {
    if (!table->supported()) continue;
    SCOPED_TRACE(table->isa);
    got = cells.unwritten();
    table->tail_bias(cells.params(got.data()), parallel_for);
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-5) << i;
    std::vector<float> again = cells.unwritten();
    table->tail_bias(cells.params(again.data()), serial_for);
    EXPECT_EQ(got, again);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, CpuTailBias, testing::ValuesIn(kTailCases),
                         [](const auto& info) { return std::string(info.param.name); });

// Jensen: more than its tokens, and no more than they where all keys are one.
TEST(ReferenceTailBias, EqualKeysCountAsTheirTokens) {
  TailCells cells({.name = "Equal", .num_video = 203});
  std::vector<float> bias = cells.unwritten();
  reference::tail_bias(cells.params(bias.data()));
  for (size_t i = 0; i < bias.size(); ++i) EXPECT_GT(bias[i], std::log(i % 4 == 3 ? 11.0 : 64.0));
  cells.make_keys_equal();
  reference::tail_bias(cells.params(bias.data()));
  for (size_t i = 0; i < bias.size(); ++i) EXPECT_NEAR(bias[i], std::log(i % 4 == 3 ? 11.0 : 64.0), 1e-6);
}

}  // namespace
}  // namespace jenga::test
