// The attention kernels with int8 keys and e4m3 values, of sm_90a and of mma.sync, against fp64 and the reference on
// the host: values, lse, every row written, bitwise repeatable.
#include "kernels/cuda/sm89/fp8_attention.h"

#include <gtest/gtest.h>

#include "kernels/cuda/sm80/shape.h"
#include "kernels/cuda/sm90/fp8_attention.h"
#include "tests/cpp/cuda/attention_cases.h"
#include "tests/cpp/cuda/device_runs.h"
#include "tests/cpp/cuda/fp8_case.h"

namespace jenga::testing {
namespace {

enum class Products { kWarp, kWarpgroup };

class Fp8Attention : public ::testing::TestWithParam<std::tuple<AttentionCase, Products>> {
 protected:
  void SetUp() override {
    if (products() == Products::kWarpgroup && !device_is_hopper())
      GTEST_SKIP() << "needs a GPU of compute capability 9.0";
    if (!cuda::sm89::runs_on(device_capability())) GTEST_SKIP() << "needs a GPU of compute capability 8.9, 9.0 or 12";
  }
  static Products products() { return std::get<1>(GetParam()); }
  static bool supports(const BlockSparseAttentionParams& params) {
    return products() == Products::kWarp ? cuda::sm89::supports_fp8_attention(params)
                                         : cuda::sm90::supports_fp8_attention(params);
  }
  // Of both kinds, whichever is launched.
  static size_t workspace(const BlockSparseAttentionParams& params) {
    return std::max(cuda::sm80::attention_workspace(params), cuda::sm90::attention_workspace(params));
  }
  static CUresult launch(const BlockSparseAttentionParams& params, void* workspace) {
    return products() == Products::kWarp ? cuda::sm89::launch_fp8_attention(params, workspace, nullptr)
                                         : cuda::sm90::launch_fp8_attention(params, workspace, nullptr);
  }
};

TEST_P(Fp8Attention, IsAsNearToFp64AsTheReferenceAndRepeatsBitwise) {
  const Fp8Case host(std::get<0>(GetParam()));
  DeviceMemory memory;
  const BlockSparseAttentionParams params = host.params(memory);
  ASSERT_TRUE(supports(params));
  Outputs found;
  ASSERT_NO_FATAL_FAILURE(run_twice(params, workspace(params), launch, found));
  expect_as_near_as_the_reference(
      host, found, products() == Products::kWarp ? cuda::sm80::kUnitKeys : cuda::sm90::kUnitKeys);
}

const auto kCases = ::testing::ValuesIn(
    cases_with({{.name = "LongLists", .num_video = 4000, .lists = Lists::kFull, .heads = 1},
                {.name = "TwoTailUnits", .num_video = 4160, .tail_block_size = 32, .heads = 1},
                {.name = "Sink", .num_context = 5, .num_video = 2000, .lists = Lists::kFull, .bias = Bias::kSink},
                {.name = "ContextBetweenHeads", .num_context = 10, .num_video = 200, .heads = 300}}));
std::string name_of(const ::testing::TestParamInfo<std::tuple<AttentionCase, Products>>& info) {
  return std::get<0>(info.param).name;
}
INSTANTIATE_TEST_SUITE_P(Sm89, Fp8Attention, ::testing::Combine(kCases, ::testing::Values(Products::kWarp)), name_of);
INSTANTIATE_TEST_SUITE_P(Sm90, Fp8Attention, ::testing::Combine(kCases, ::testing::Values(Products::kWarpgroup)),
                         name_of);

}  // namespace
}  // namespace jenga::testing
