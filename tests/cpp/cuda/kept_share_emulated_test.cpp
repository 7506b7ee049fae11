// kept_share on the host, thread by thread (emulated/), against the reference.
#include <gtest/gtest.h>

#include "tests/cpp/cuda/emulated/block.h"
// The stand-ins come first: the kernel below is written in CUDA's terms.
#include "kernels/cuda/driver/kernel.h"
#define JENGA_DEFINE_KERNEL(...)
#include "kernels/cuda/common/kept_share.cu"
#include "kernels/reference/reference.h"
#include "tests/cpp/kernels/kept_lists.h"

namespace jenga::testing {
namespace {

class KeptShareEmulated : public ::testing::TestWithParam<test::KeptCase> {};

TEST_P(KeptShareEmulated, MatchesTheReference) {
  const test::KeptLists lists(GetParam());
  float want = NAN, got = NAN;
  reference::kept_share(lists.params(&want));
  const cuda::KeptShareArguments args = cuda::kept_share_arguments(lists.params(&got));
  emulated::Block(cuda::kKeptShareThreads).run(0, [&] { cuda::kept_share(args); });
  EXPECT_EQ(got, want);
}

INSTANTIATE_TEST_SUITE_P(Cases, KeptShareEmulated, ::testing::ValuesIn(test::kKeptCases),
                         [](const auto& info) { return test::name_of(info.param); });

}  // namespace
}  // namespace jenga::testing
