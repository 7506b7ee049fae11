// pack_residual against the reference, code by code.
#include <gtest/gtest.h>

#include "kernels/cuda/launch.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/attention_case.h"
#include "tests/cpp/cuda/device_array.h"

namespace jenga::testing {
namespace {

struct PackCase {
  const char* name;
  int64_t head_dim;
  int32_t bits;
  DataType dtype;
};

class PackResidual : public ::testing::TestWithParam<PackCase> {};

TEST_P(PackResidual, MatchesTheReference) {
  JENGA_SKIP_WITHOUT_DEVICE();
  const PackCase& shape = GetParam();
  constexpr int64_t kBatch = 2, kHeads = 3, kTokens = 45;
  const int64_t rows = kBatch * kHeads * kTokens, channels = shape.head_dim;
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> dense(rows * channels), carved(rows * channels);
  for (uint16_t& value : dense) value = encode(shape.dtype, normal(random));
  for (uint16_t& value : carved) value = encode(shape.dtype, normal(random));
  std::copy_n(dense.begin(), channels, carved.begin());  // a row without residual: scale 0

  PackResidualParams params{};
  params.batch = kBatch;
  params.heads = kHeads;
  params.tokens = kTokens;
  params.head_dim = channels;
  params.bits = shape.bits;
  params.dense = {nullptr, {kTokens * kHeads * channels, channels, kHeads * channels}, shape.dtype};
  params.carved = {nullptr, {kHeads * kTokens * channels, kTokens * channels, channels}, shape.dtype};
  std::vector<uint8_t> packed(rows * channels * shape.bits / 8);
  std::vector<float> scale(rows);
  PackResidualParams host = params;
  host.dense.data = dense.data();
  host.carved.data = carved.data();
  host.packed = packed.data();
  host.scale = scale.data();
  reference::pack_residual(host);

  const DeviceArray device_dense(dense), device_carved(carved);
  const DeviceArray<uint8_t> device_packed(packed.size());
  const DeviceArray<float> device_scale(rows);
  params.dense.data = device_dense.get();
  params.carved.data = device_carved.get();
  params.packed = device_packed.get();
  params.scale = device_scale.get();
  ASSERT_EQ(cuda::pack_residual(params, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const std::vector<float> got_scale = device_scale.download();
  for (int64_t i = 0; i < rows; ++i) ASSERT_FLOAT_EQ(got_scale[i], scale[i]) << i;
  // Rounding of the scale may move a value that lies on a boundary by one code: one in a thousand at most.
  const std::vector<uint8_t> got = device_packed.download();
  int64_t different = 0;
  for (size_t i = 0; i < packed.size(); ++i) different += got[i] != packed[i];
  EXPECT_LE(different, static_cast<int64_t>(packed.size() / 1000));
}

INSTANTIATE_TEST_SUITE_P(Cases, PackResidual,
                         ::testing::Values(PackCase{"Bits8", 128, 8, DataType::kBFloat16},
                                           PackCase{"Bits4", 128, 4, DataType::kBFloat16},
                                           PackCase{"Bits4HeadDim40", 40, 4, DataType::kFloat16},
                                           PackCase{"Bits8HeadDim8", 8, 8, DataType::kFloat16},
                                           PackCase{"Bits4HeadDim256", 256, 4, DataType::kBFloat16}),
                         [](const auto& info) { return std::string(info.param.name); });

// A refusal needs no GPU. A kernel that started would leave the context unusable.
TEST(PackResidualSupport, RefusesRowsOffSixteenBytes) {
  alignas(16) uint16_t memory[16] = {};
  PackResidualParams params{};
  params.dense = {memory + 1, {8, 8, 8}, DataType::kBFloat16};
  params.carved = {memory, {8, 8, 8}, DataType::kBFloat16};
  params.batch = params.heads = params.tokens = 1;
  params.head_dim = 8;
  params.bits = 8;
  EXPECT_EQ(cuda::pack_residual(params, nullptr), CUDA_ERROR_MISALIGNED_ADDRESS);
}

}  // namespace
}  // namespace jenga::testing
