// The sm_80 attention kernel with int8 keys, on any GPU, against the reference on the host, which rounds keys, scales
// and queries in the same way: values, lse, every row written, bitwise repeatable.
#include <gtest/gtest.h>

#include "kernels/cuda/sm80/attention.h"
#include "tests/cpp/cuda/attention_cases.h"
#include "tests/cpp/cuda/device_runs.h"
#include "tests/cpp/cuda/int8_case.h"

namespace jenga::testing {
namespace {

CUresult launch(const BlockSparseAttentionParams& params, void* workspace) {
  return params.head_dim <= 64 ? cuda::sm80::launch_int8_attention<64>(params, workspace, nullptr)
                               : cuda::sm80::launch_int8_attention<128>(params, workspace, nullptr);
}

class Sm80Int8Attention : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(Sm80Int8Attention, MatchesTheReferenceAndRepeatsBitwise) {
  JENGA_SKIP_WITHOUT_DEVICE();
  const Int8Case host(GetParam());
  DeviceMemory memory;
  const BlockSparseAttentionParams params = host.params(memory);
  ASSERT_TRUE(cuda::sm80::supports_int8_attention<128>(params));
  Outputs found;
  ASSERT_NO_FATAL_FAILURE(run_twice(params, cuda::sm80::attention_workspace(params), launch, found));
  // As far from the reference as 16-bit values and weights make it.
  const double allowed = 2 * relative_error(host.data.plain().out, host.data.exact().out) + 1e-3;
  expect_near(params.q.dtype, found, by_reference(host.params(OnHost())), allowed, 5e-3);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Sm80Int8Attention,
    ::testing::ValuesIn(cases_with({{.name = "HeadDim16", .head_dim = 16, .num_context = 3},
                                    {.name = "HeadDim48", .head_dim = 48, .tail_block_size = 64},
                                    {.name = "HeadDim64", .head_dim = 64, .num_context = 10},
                                    {.name = "HeadDim96", .head_dim = 96, .num_context = 10, .tail_block_size = 64}})),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::testing
