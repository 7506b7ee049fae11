// copy_rows on the host, thread by thread (emulated/), with the arguments that a launch gets.
#include <gtest/gtest.h>

#include "tests/cpp/cuda/emulated/block.h"
// The stand-ins come first: the kernel below is written in CUDA's terms.
#include "kernels/cuda/driver/kernel.h"
#define JENGA_DEFINE_KERNEL(...)
#include "kernels/cuda/common/copy_rows.cu"
#include "tests/cpp/cuda/copy_rows_case.h"

namespace jenga::testing {
namespace {

class CopyRowsEmulated : public ::testing::TestWithParam<CopyRowsCase> {};

TEST_P(CopyRowsEmulated, WritesTheRowsAndNothingElse) {
  const CopyRowsCase& c = GetParam();
  std::vector<Words> sources = c.drawn_sources(), targets = c.unwritten_targets();
  std::vector<void*> from, to;
  for (Words& words : sources) from.push_back(words.data());
  for (Words& words : targets) to.push_back(words.data());
  cuda::CopyRowsArguments arguments;
  int64_t thread_blocks = 0;
  ASSERT_EQ(cuda::copy_rows_arguments(c.params(from, to), &arguments, &thread_blocks), CUDA_SUCCESS);
  emulated::Block block(cuda::kCopyThreads);
  for (int64_t i = 0; i < thread_blocks; ++i) block.run(static_cast<int>(i), [&] { cuda::copy_rows(arguments); });
  EXPECT_EQ(targets, c.wanted(sources));
}

INSTANTIATE_TEST_SUITE_P(Cases, CopyRowsEmulated, ::testing::ValuesIn(kCopyRowsCases),
                         [](const auto& info) { return name_of(info.param); });

TEST(Divisor, DividesWhateverABlockOrARowMayBe) {
  for (const int64_t heads : {1, 2, 3, 5, 40, 127, 1000}) {
    for (const int64_t tokens : {1, 7, 75600, 115456}) {
      const CopyRowsCase c{"", 1, 1, heads, tokens, 48, {true, heads + 1, 0}, {true, heads, 0}};
      cuda::CopyRowsArguments arguments;
      int64_t thread_blocks = 0;
      ASSERT_EQ(cuda::copy_rows_arguments(c.params({nullptr}, {nullptr}), &arguments, &thread_blocks), CUDA_SUCCESS);
      const cuda::Divisor& d = arguments.row_vectors;
      ASSERT_EQ(d.value, heads * 3);
      for (const uint32_t whole : {0u, 1u, 2u, 12345u, 0x7FFFFFFFu / d.value}) {
        const uint32_t n = whole * d.value;
        EXPECT_EQ(cuda::divided(n, d).whole, whole);
        EXPECT_EQ(cuda::divided(n, d).rest, 0u);
        if (n > 0) EXPECT_EQ(cuda::divided(n - 1, d).whole, whole - 1);
        if (n > 0) EXPECT_EQ(cuda::divided(n - 1, d).rest, d.value - 1);
      }
    }
  }
}

}  // namespace
}  // namespace jenga::testing
