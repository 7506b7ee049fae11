// tail_bias against the reference.
#include <gtest/gtest.h>

#include "kernels/cuda/launch.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/device_array.h"
#include "tests/cpp/kernels/tail_cells.h"

namespace jenga::testing {
namespace {

class TailBias : public ::testing::TestWithParam<test::TailCase> {};

TEST_P(TailBias, MatchesTheReference) {
  JENGA_SKIP_WITHOUT_DEVICE();
  const test::TailCells cells(GetParam());
  std::vector<float> want = cells.unwritten();
  reference::tail_bias(cells.params(want.data()));

  const DeviceArray q(cells.q_means()), k(cells.k_means());
  const DeviceArray<float> bias(want.size());
  TailBiasParams params = cells.params(bias.get());
  params.q_means = q.get();
  params.k_means = k.get();
  if (params.dtype == DataType::kFloat32) {
    EXPECT_EQ(cuda::tail_bias(params, nullptr), CUDA_ERROR_NOT_SUPPORTED);
    return;
  }
  ASSERT_EQ(cuda::tail_bias(params, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const std::vector<float> got = bias.download();
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-4) << i;
}

INSTANTIATE_TEST_SUITE_P(Cases, TailBias, ::testing::ValuesIn(test::kTailCases),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::testing
