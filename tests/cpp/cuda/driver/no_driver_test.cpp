// Where there is no driver the library loads all the same, and every launch says what is missing.
#include <gtest/gtest.h>

#include "kernels/cuda/driver/driver.h"
#include "kernels/cuda/launch.h"
#include "tests/cpp/cuda/driver/launch_cases.h"

namespace jenga::testing {
namespace {

TEST(NoDriver, LaunchesSayWhatIsMissing) {
  if (cuda::find_driver() != nullptr) GTEST_SKIP() << "this machine has a driver";
  EXPECT_EQ(cuda::prepare_blocks(prepare_case(DataType::kBFloat16, 64), nullptr, nullptr), CUDA_ERROR_NOT_INITIALIZED);
  EXPECT_EQ(cuda::block_sparse_attention(attention_case(DataType::kBFloat16, 64), nullptr, nullptr),
            CUDA_ERROR_NOT_INITIALIZED);
  EXPECT_NE(cuda::driver_refusal().find("an NVIDIA driver must be installed, got no "), std::string::npos)
      << cuda::driver_refusal();
  EXPECT_EQ(cuda::error_text(CUDA_ERROR_NOT_INITIALIZED), cuda::driver_refusal());
}

}  // namespace
}  // namespace jenga::testing
