// tail_bias on the host, thread by thread (emulated/), against the reference.
#include <gtest/gtest.h>

#define JENGA_EMULATES_DYNAMIC_SHARED
#include "tests/cpp/cuda/emulated/kernels/cuda/sm80/mma.h"
// The stand-ins come first: the kernel below is written in CUDA's terms.
#include "kernels/cuda/driver/kernel.h"
#define JENGA_DEFINE_KERNEL_PAIR(...)
#include "kernels/cuda/sm80/tail_bias.cu"
#include "kernels/reference/reference.h"
#include "tests/cpp/kernels/tail_cells.h"

namespace jenga::testing {
namespace {

class TailBiasEmulated : public ::testing::TestWithParam<test::TailCase> {};

TEST_P(TailBiasEmulated, MatchesTheReference) {
  if (GetParam().dtype == DataType::kFloat32) GTEST_SKIP() << "CUDA kernels take bf16 and fp16";
  const test::TailCells cells(GetParam());
  std::vector<float> want = cells.unwritten(), got = want;
  reference::tail_bias(cells.params(want.data()));
  const cuda::TailBiasArguments args = cuda::tail_bias_arguments(cells.params(got.data()));
  emulated::Block block(cuda::sm80::kTailBiasThreads);
  for (int64_t i = 0; i < args.params.batch * args.params.heads * args.blocks_per_head; ++i) {
    block.run(static_cast<int>(i), [&] {
      GetParam().dtype == DataType::kBFloat16 ? cuda::sm80::tail_bias<__nv_bfloat16>(args)
                                              : cuda::sm80::tail_bias<__half>(args);
    });
  }
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-4) << i;
}

INSTANTIATE_TEST_SUITE_P(Cases, TailBiasEmulated, ::testing::ValuesIn(test::kTailCases),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::testing
