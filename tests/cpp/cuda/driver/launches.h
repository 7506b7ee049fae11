// What the fake driver was asked for, as tests compare it.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/common/average_cells.h"
#include "kernels/cuda/common/kept_share.h"
#include "kernels/cuda/common/prepare_blocks.h"
#include "kernels/cuda/common/score_arguments.h"
#include "kernels/cuda/common/select_blocks.h"
#include "kernels/cuda/common/tile_order.h"
#include "kernels/cuda/driver/driver.h"
#include "kernels/cuda/sm80/attention_arguments.h"
#include "kernels/cuda/sm80/tail_bias.h"
#include "kernels/cuda/sm90/attention_arguments.h"
#include "kernels/cuda/sm90/fp8_arguments.h"
#include "tests/cpp/cuda/driver/fake_driver.h"
#include "tests/cpp/cuda/driver/launch_cases.h"

namespace jenga::testing {

inline constexpr DataType kBrain = DataType::kBFloat16, kHalf = DataType::kFloat16;
inline constexpr FakeDevice kA100{8, 0, 108, 166912, 167936, 1024}, kRtx3090{8, 6, 82, 101376, 102400, 1024},
    kRtx4090{8, 9, 128, 101376, 102400, 1024}, kH100{9, 0, 132, 232448, 233472, 1024},
    kB200{10, 0, 148, 232448, 233472, 1024}, kRtx5090{12, 0, 170, 101376, 102400, 1024};

inline size_t argument_bytes(const std::string& kernel) {
  const auto is = [&](const char* part) { return kernel.find(part) != std::string::npos; };
  if (is("memset")) return 2 * sizeof(CUdeviceptr);
  if (is("prepare_blocks") || is("prepare_int8_blocks") || is("prepare_fp8_blocks") || is("prepare_values") ||
      is("sample_centers") || is("scale_values"))
    return sizeof(cuda::PrepareArguments);
  if (is("quantise_tail")) return sizeof(cuda::QuantiseTailArguments);
  if (is("average_cells")) return sizeof(cuda::AverageArguments);
  if (is("score")) return sizeof(cuda::ScoreArguments);
  if (is("select_blocks")) return sizeof(cuda::SelectArguments);
  if (is("order_tiles")) return sizeof(cuda::OrderArguments);
  if (is("pack_residual")) return sizeof(PackResidualParams);
  if (is("tail_bias")) return sizeof(cuda::TailBiasArguments);
  if (is("kept_share")) return sizeof(cuda::KeptShareArguments);
  if (is("sm80_attention") || is("sm80_int8_attention") || is("sm86_attention") || is("sm89_fp8"))
    return sizeof(cuda::sm80::AttentionArguments);
  if (is("sm90_fp8_attention")) return sizeof(cuda::sm90::Fp8Arguments);
  if (is("sm90_attention")) return sizeof(cuda::sm90::AttentionArguments);
  ADD_FAILURE() << "nothing is known of " << kernel;
  return 0;
}

struct Launched {
  std::string shape;  // kernel, grid, threads, bytes of shared memory
  std::vector<unsigned char> argument;
  CUstream stream;

  template <class Argument>
  Argument as() const {
    Argument value;
    EXPECT_EQ(argument.size(), sizeof(value));
    std::memcpy(&value, argument.data(), sizeof(value));
    return value;
  }
};

inline std::vector<Launched> launched;

using Shapes = std::vector<std::string>;

inline void listen(const FakeLaunch* launch) {
  const CUlaunchConfig& c = launch->config;
  const auto* bytes = static_cast<const unsigned char*>(launch->argument);
  const std::string kernel = launch->kernel;
  if (kernel != "memset") {
    EXPECT_TRUE(c.gridDimY == 1 && c.gridDimZ == 1 && c.blockDimY == 1 && c.blockDimZ == 1);
  }
  launched.push_back({kernel + " " + std::to_string(c.gridDimX) + " " + std::to_string(c.blockDimX) + " " +
                          std::to_string(c.sharedMemBytes),
                      {bytes, bytes + argument_bytes(kernel)},
                      c.hStream});
}

inline Shapes shapes() {
  Shapes all;
  for (const Launched& launch : launched) all.push_back(launch.shape);
  return all;
}

class Launch : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(cuda::find_driver(), nullptr) << cuda::driver_refusal();
    fake_set_listener(listen);
    fake_set_current(true);
    on(kA100);
  }
  static void on(const FakeDevice& device) {
    fake_set_device(&device);
    launched.clear();
  }
};

}  // namespace jenga::testing
