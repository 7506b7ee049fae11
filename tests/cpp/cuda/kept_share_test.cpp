// kept_share against the reference, bit for bit: pairs are counted in integers.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cuda/launch.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/device_array.h"
#include "tests/cpp/kernels/kept_lists.h"

namespace jenga::testing {
namespace {

class KeptShare : public ::testing::TestWithParam<test::KeptCase> {};

TEST_P(KeptShare, MatchesTheReference) {
  JENGA_SKIP_WITHOUT_DEVICE();
  const test::KeptLists lists(GetParam());
  float want = NAN;
  reference::kept_share(lists.params(&want));

  const DeviceArray index(lists.index), count(lists.count);
  const DeviceArray<float> share(1);
  KeptShareParams params = lists.params(share.get());
  params.kv_block_index = index.get();
  params.kv_block_count = count.get();
  ASSERT_EQ(cuda::kept_share(params, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(share.download()[0], want);
}

INSTANTIATE_TEST_SUITE_P(Cases, KeptShare, ::testing::ValuesIn(test::kKeptCases),
                         [](const auto& info) { return test::name_of(info.param); });

}  // namespace
}  // namespace jenga::testing
