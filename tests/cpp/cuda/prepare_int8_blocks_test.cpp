// prepare_blocks with int8 keys against the reference: codes within one, scales and centers to rounding, the rest as it
// is in 16 bits.
#include <gtest/gtest.h>

#include "kernels/cuda/launch.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/attention_case.h"
#include "tests/cpp/cuda/device_array.h"

namespace jenga::testing {
namespace {

struct Case {
  const char* name;
  int64_t num_context, num_video, head_dim, tail_block_size;
  float constant = 0.f, outlier = 1.f;  // added to every key; factor of one channel
  DataType dtype = DataType::kBFloat16;
};

// Outputs of one call, on the host or on the device.
template <template <class> class Array>
struct Outputs {
  Array<int8_t> k_carved, k_tail;
  Array<uint16_t> v_carved, v_tail;
  Array<float> k_scale, k_tail_scale, k_center;

  Outputs(int64_t heads, int64_t rows, int64_t cells, int64_t channels)
      : k_carved(heads * rows * channels),
        k_tail(heads * cells * channels),
        v_carved(heads * rows * channels),
        v_tail(heads * cells * channels),
        k_scale(heads * scales_of_keys(rows)),
        k_tail_scale(heads * scales_of_keys(cells)),
        k_center(heads * channels) {}
};
template <class Value>
using Host = std::vector<Value>;

class PrepareInt8Blocks : public ::testing::TestWithParam<Case> {};

TEST_P(PrepareInt8Blocks, MatchesTheReference) {
  JENGA_SKIP_WITHOUT_DEVICE();
  const Case& shape = GetParam();
  constexpr int64_t kHeads = 3;
  const int64_t tokens = shape.num_context + shape.num_video, channels = shape.head_dim;
  const int64_t padded = round_up(shape.num_context, kContextAlignment), rows = padded + shape.num_video;
  const int64_t cells = shape.tail_block_size ? ceil_div(shape.num_video, shape.tail_block_size) : 0;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> k(kHeads * tokens * channels), v(k.size());
  for (size_t i = 0; i < k.size(); ++i) {
    const float factor = i % channels == 1 ? shape.outlier : 1.f;
    k[i] = encode(shape.dtype, normal(random) * factor + shape.constant * static_cast<float>(i % channels % 5));
    v[i] = encode(shape.dtype, normal(random));
  }
  std::vector<int32_t> token_index(tokens);
  std::iota(token_index.begin(), token_index.end(), 0);
  std::shuffle(token_index.begin(), token_index.end(), random);
  std::vector<float> bias(padded, -std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < shape.num_context; ++i) {
    if (i % 3 != 0) bias[i] = 0.5f;
    if (i % 3 != 0) continue;
    for (int64_t h = 0; h < kHeads; ++h)
      std::fill_n(k.begin() + (h * tokens + token_index[i]) * channels, channels, encode(shape.dtype, NAN));
  }

  PrepareBlocksParams params{};
  const Strides strides{kHeads * tokens * channels, tokens * channels, channels};
  params.q = params.k = {k.data(), strides, shape.dtype};
  params.v = {v.data(), strides, shape.dtype};
  params.token_index = token_index.data();
  params.context_bias = padded ? bias.data() : nullptr;
  params.batch = 1;
  params.heads = kHeads;
  params.head_dim = channels;
  params.num_context = shape.num_context;
  params.num_video = shape.num_video;
  params.q_cell_size = params.k_cell_size = 16;
  params.tail_block_size = shape.tail_block_size;

  const auto point = [&](PrepareBlocksParams& p, auto& outputs, auto address) {
    p.k_carved = address(outputs.k_carved);
    p.v_carved = address(outputs.v_carved);
    p.k_tail = cells ? address(outputs.k_tail) : nullptr;
    p.v_tail = cells ? address(outputs.v_tail) : nullptr;
    p.k_scale = address(outputs.k_scale);
    p.k_tail_scale = address(outputs.k_tail_scale);
    p.k_center = address(outputs.k_center);
  };
  Outputs<Host> want(kHeads, rows, cells, channels);
  PrepareBlocksParams host = params;
  point(host, want, [](auto& x) { return x.data(); });
  reference::prepare_blocks(host);

  const DeviceArray device_k(k), device_v(v);
  const DeviceArray device_index(token_index);
  const DeviceArray device_bias(bias);
  Outputs<DeviceArray> got(kHeads, rows, cells, channels);
  params.q.data = params.k.data = device_k.get();
  params.v.data = device_v.get();
  params.token_index = device_index.get();
  params.context_bias = padded ? device_bias.get() : nullptr;
  point(params, got, [](auto& x) { return x.get(); });
  const DeviceArray<float> workspace(cuda::prepare_blocks_workspace(params) / sizeof(float));
  ASSERT_EQ(cuda::prepare_blocks(params, workspace.get(), nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);

  EXPECT_EQ(got.v_carved.download(), want.v_carved);
  const auto expect_near = [](const std::vector<float>& found, const std::vector<float>& wanted) {
    for (size_t i = 0; i < wanted.size(); ++i) ASSERT_NEAR(found[i], wanted[i], 1e-5 * std::abs(wanted[i]) + 1e-5) << i;
  };
  expect_near(got.k_scale.download(), want.k_scale);
  expect_near(got.k_tail_scale.download(), want.k_tail_scale);
  expect_near(got.k_center.download(), want.k_center);
  const auto expect_codes = [](const std::vector<int8_t>& found, const std::vector<int8_t>& wanted) {
    size_t moved = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_LE(std::abs(found[i] - wanted[i]), 1) << i;
      moved += found[i] != wanted[i];
    }
    EXPECT_LE(moved, wanted.size() / 50 + 1);
  };
  expect_codes(got.k_carved.download(), want.k_carved);
  expect_codes(got.k_tail.download(), want.k_tail);
}

INSTANTIATE_TEST_SUITE_P(Cases, PrepareInt8Blocks,
                         ::testing::Values(Case{"Whole", 0, 512, 128, 64}, Case{"Ragged", 77, 585, 128, 32},
                                           Case{"OneToken", 128, 1, 128, 64}, Case{"NoTail", 5, 203, 64, 0},
                                           Case{"HeadDim16", 3, 150, 16, 32}, Case{"HeadDim48", 3, 150, 48, 64},
                                           Case{"HeadDim96", 0, 150, 96, 128}, Case{"Constant", 9, 400, 128, 64, 20.f},
                                           Case{"Outliers", 9, 400, 64, 64, 0.f, 12.f},
                                           Case{"Fp16", 9, 400, 128, 128, 5.f, 3.f, DataType::kFloat16}),
                         [](const auto& info) { return std::string(info.param.name); });

// A refusal needs no GPU.
TEST(PrepareInt8BlocksSupport, RefusesHeadDimsItCannotReadSixteenAtATime) {
  alignas(16) uint16_t memory[512] = {};
  float scale = 0;
  PrepareBlocksParams params{};
  params.batch = params.heads = params.num_video = 1;
  params.q_cell_size = params.k_cell_size = 128;
  params.k_scale = params.k_tail_scale = params.k_center = &scale;
  for (const int64_t head_dim : {8, 40, 256}) {
    params.head_dim = head_dim;
    params.q = params.k = params.v = {memory, {head_dim, head_dim, head_dim}, DataType::kBFloat16};
    EXPECT_EQ(cuda::prepare_blocks(params, nullptr, nullptr), CUDA_ERROR_NOT_SUPPORTED);
  }
}

}  // namespace
}  // namespace jenga::testing
