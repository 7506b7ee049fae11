// The attention kernels of mma.sync, with the tiles of sm_80 and of sm_86, on any GPU, against fp64 on the host:
// values, lse, every row written, bitwise repeatable.
#include <gtest/gtest.h>

#include "kernels/cuda/sm80/attention.h"
#include "kernels/cuda/sm86/attention.h"
#include "tests/cpp/cuda/attention_cases.h"
#include "tests/cpp/cuda/device_runs.h"
#include "tests/cpp/cuda/host_case.h"

namespace jenga::testing {
namespace {

enum class Tiles { kSm80, kSm86 };

CUresult launch_smallest(Tiles tiles, const BlockSparseAttentionParams& params, void* workspace) {
  if (tiles == Tiles::kSm86) {
    if (params.head_dim <= 128) return cuda::sm86::launch_attention<128>(params, workspace, nullptr);
    if (params.head_dim <= 192) return cuda::sm86::launch_attention<192>(params, workspace, nullptr);
    return cuda::sm86::launch_attention<256>(params, workspace, nullptr);
  }
  if (params.head_dim <= 32) return cuda::sm80::launch_attention<32>(params, workspace, nullptr);
  if (params.head_dim <= 64) return cuda::sm80::launch_attention<64>(params, workspace, nullptr);
  if (params.head_dim <= 96) return cuda::sm80::launch_attention<96>(params, workspace, nullptr);
  if (params.head_dim <= 128) return cuda::sm80::launch_attention<128>(params, workspace, nullptr);
  if (params.head_dim <= 192) return cuda::sm80::launch_attention<192>(params, workspace, nullptr);
  return cuda::sm80::launch_attention<256>(params, workspace, nullptr);
}

class Sm80Attention : public ::testing::TestWithParam<std::tuple<AttentionCase, Tiles>> {};

TEST_P(Sm80Attention, MatchesFp64AndRepeatsBitwise) {
  JENGA_SKIP_WITHOUT_DEVICE();
  const auto& [shape, tiles] = GetParam();
  const HostCase host(shape);
  DeviceMemory memory;
  const BlockSparseAttentionParams params = host.params(memory);
  ASSERT_TRUE(cuda::sm80::supports_attention<256>(params));
  const auto launch = [tiles = tiles](const BlockSparseAttentionParams& p, void* workspace) {
    return launch_smallest(tiles, p, workspace);
  };
  Outputs found;
  ASSERT_NO_FATAL_FAILURE(run_twice(params, cuda::sm80::attention_workspace(params), launch, found));
  const AttentionResult exact = host.data.exact();
  expect_near(shape.dtype, found, exact, 2 * relative_error(host.data.plain().out, exact.out), 1e-3);
}

const auto kCases = ::testing::ValuesIn(
    cases_with({{.name = "HeadDim8", .head_dim = 8, .num_context = 3},
                {.name = "HeadDim40", .head_dim = 40, .tail_block_size = 64},
                {.name = "HeadDim64", .head_dim = 64, .num_context = 10},
                {.name = "HeadDim96", .head_dim = 96, .num_context = 10},
                {.name = "HeadDim192", .head_dim = 192, .num_context = 10, .tail_block_size = 64},
                {.name = "HeadDim256", .dtype = DataType::kFloat16, .head_dim = 256, .num_context = 10},
                {.name = "ResidualBf16", .num_context = 30, .residual = ResidualType::kBFloat16}}));
INSTANTIATE_TEST_SUITE_P(Cases, Sm80Attention,
                         ::testing::Combine(kCases, ::testing::Values(Tiles::kSm80, Tiles::kSm86)),
                         [](const auto& info) {
                           const bool sm80 = std::get<1>(info.param) == Tiles::kSm80;
                           return std::string(std::get<0>(info.param).name) + (sm80 ? "" : "TilesOfSm86");
                         });

}  // namespace
}  // namespace jenga::testing
