// The Windows library under torch_cpu.dll: it loads, its operators compute, and its errors are errors of torch.
#include <gtest/gtest.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <windows.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace jenga::test {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using torch::stable::detail::from;
using torch::stable::detail::to;

// Arguments in, every one that the schema has (csrc/ops/schemas.cpp), outputs in the same array; torch's error code.
AOTITorchError call(const char* op, std::vector<StableIValue>& stack) {
  return torch_call_dispatcher((std::string("jenga::") + op).c_str(), "", stack.data(), TORCH_ABI_VERSION);
}

Tensor empty(std::vector<int64_t> sizes, ScalarType type) {
  return torch::stable::empty(torch::headeronly::IntHeaderOnlyArrayRef(sizes.data(), sizes.size()), type, std::nullopt,
                              torch::stable::Device(torch::headeronly::DeviceType::CPU));
}

Tensor random(std::vector<int64_t> sizes, unsigned seed) {
  Tensor x = empty(std::move(sizes), ScalarType::Float);
  std::mt19937 bits(seed);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < x.numel(); ++i) static_cast<float*>(x.mutable_data_ptr())[i] = normal(bits);
  return x;
}

const float* data(const Tensor& x) { return static_cast<const float*>(x.const_data_ptr()); }

class WindowsOperators : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const HMODULE library = LoadLibraryA("libjenga_cpu.dll");
    ASSERT_NE(library, nullptr) << "error " << GetLastError();
  }
};

TEST_F(WindowsOperators, TheBestTierOfThisMachineIsLive) {
  std::vector<StableIValue> stack(1);
  ASSERT_EQ(call("cpu_isa", stack), 0);
  const std::string isa = to<std::string>(stack[0]);
  std::printf("cpu_isa: %s\n", isa.c_str());
  EXPECT_TRUE(isa == "generic" || isa == "avx2" || isa == "avx512" || isa == "avx512_bf16") << isa;
}

TEST_F(WindowsOperators, CurveOrderIsAPermutation) {
  std::vector<StableIValue> stack{from(int64_t{3}), from(int64_t{4}), from(int64_t{5}), from(std::string("gilbert3d"))};
  ASSERT_EQ(call("curve_order", stack), 0);
  const Tensor order = to<Tensor>(stack[0]);
  std::vector<int> seen(60, 0);
  for (int64_t i = 0; i < order.numel(); ++i) ++seen.at(static_cast<const int32_t*>(order.const_data_ptr())[i]);
  EXPECT_EQ(seen, std::vector<int>(60, 1));
}

// Every block kept: dense attention, over torch's thread pool.
TEST_F(WindowsOperators, AttentionOverAllBlocksIsDense) {
  constexpr int64_t kTokens = 300, kDim = 64;
  const Tensor q = random({1, 1, kTokens, kDim}, 1), k = random({1, 1, kTokens, kDim}, 2),
               v = random({1, 1, kTokens, kDim}, 3);
  const Tensor order = empty({kTokens}, ScalarType::Int);
  for (int32_t i = 0; i < kTokens; ++i) static_cast<int32_t*>(order.mutable_data_ptr())[i] = i;
  const std::optional<Tensor> none;
  std::vector<StableIValue> stack{from(q),           from(k),           from(v),
                                  from(order),       from(int64_t{0}),  from(int64_t{128}),
                                  from(int64_t{64}), from(int64_t{64}), from(none)};
  ASSERT_EQ(call("prepare_blocks", stack), 0);
  const Tensor k_carved = to<Tensor>(stack[0]), v_carved = to<Tensor>(stack[1]), q_means = to<Tensor>(stack[2]),
               k_means = to<Tensor>(stack[3]), k_tail = to<Tensor>(stack[4]), v_tail = to<Tensor>(stack[5]);
  const double scale = 1 / std::sqrt(double{kDim});
  stack = {from(q_means),    from(k_means),    from(none),       from(kTokens), from(int64_t{128}), from(int64_t{64}),
           from(int64_t{1}), from(int64_t{1}), from(int64_t{5}), from(0.0),     from(scale)};
  ASSERT_EQ(call("select_blocks", stack), 0);
  const Tensor index = to<Tensor>(stack[0]), count = to<Tensor>(stack[1]);
  stack = {from(q),
           from(k_carved),
           from(v_carved),
           from(index),
           from(count),
           from(order),
           from(int64_t{0}),
           from(int64_t{128}),
           from(int64_t{64}),
           from(scale),
           from(none),
           from(std::optional<Tensor>(k_tail)),
           from(std::optional<Tensor>(v_tail)),
           from(int64_t{64}),
           from(none),
           from(none),
           from(none),
           from(none),
           from(none),
           from(none),
           from(none),
           from(none)};
  ASSERT_EQ(call("block_sparse_attention", stack), 0);
  const Tensor out = to<Tensor>(stack[0]), lse = to<Tensor>(stack[1]);
  for (int64_t row = 0; row < kTokens; row += 37) {
    std::vector<double> weights(kTokens);
    double sum = 0;
    for (int64_t j = 0; j < kTokens; ++j) {
      double logit = 0;
      for (int64_t d = 0; d < kDim; ++d) logit += double{data(q)[row * kDim + d]} * data(k)[j * kDim + d];
      sum += weights[j] = std::exp(logit * scale);
    }
    EXPECT_NEAR(data(lse)[row], std::log(sum), 1e-5);
    for (int64_t d = 0; d < kDim; d += 7) {
      double expected = 0;
      for (int64_t j = 0; j < kTokens; ++j) expected += weights[j] / sum * data(v)[j * kDim + d];
      EXPECT_NEAR(data(out)[row * kDim + d], expected, 1e-5) << row << ", " << d;
    }
  }
}

// The exception is made in one compiler's library and caught in the other's.
TEST_F(WindowsOperators, AnErrorArrivesAsTorchsOwn) {
  for (int again = 0; again < 3; ++again) {
    std::vector<StableIValue> stack{from(int64_t{3}), from(int64_t{4}), from(int64_t{5}), from(std::string("spiral"))};
    testing::internal::CaptureStderr();
    EXPECT_NE(call("curve_order", stack), 0);
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find("curve_order: curve must"), std::string::npos) << said;
    EXPECT_NE(said.find("spiral"), std::string::npos) << said;
  }
}

}  // namespace
}  // namespace jenga::test
