// prepare_blocks against the reference: carved rows bit for bit, means to rounding.
#include <gtest/gtest.h>

#include "kernels/cuda/launch.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/attention_case.h"
#include "tests/cpp/cuda/device_array.h"

namespace jenga::testing {
namespace {

struct PrepareCase {
  const char* name;
  int64_t num_context, num_video, head_dim, q_cell_size, k_cell_size, tail_block_size;
  bool tokens_first = false;
  DataType dtype = DataType::kBFloat16;
};

class PrepareBlocks : public ::testing::TestWithParam<PrepareCase> {};

TEST_P(PrepareBlocks, MatchesTheReference) {
  JENGA_SKIP_WITHOUT_DEVICE();
  const PrepareCase& shape = GetParam();
  constexpr int64_t kBatch = 2, kHeads = 3;
  const int64_t tokens = shape.num_context + shape.num_video, channels = shape.head_dim;
  const int64_t carved_rows = round_up(shape.num_context, kContextAlignment) + shape.num_video;
  const int64_t heads = kBatch * kHeads, size = heads * tokens * channels;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto draw = [&] {
    std::vector<uint16_t> values(size);
    for (uint16_t& value : values) value = encode(shape.dtype, normal(random));
    return values;
  };
  const std::vector<uint16_t> q = draw();
  std::vector<uint16_t> k = draw(), v = draw();
  std::vector<int32_t> token_index(tokens);
  std::iota(token_index.begin(), token_index.end(), 0);
  std::shuffle(token_index.begin(), token_index.end(), random);

  // Every third context column is masked; its keys and values hold NaN.
  const int64_t padded = round_up(shape.num_context, kContextAlignment);
  std::vector<float> context_bias(kBatch * padded, -std::numeric_limits<float>::infinity());
  for (int64_t b = 0; b < kBatch; ++b) {
    for (int64_t i = 0; i < shape.num_context; ++i) {
      if ((i + b) % 3 != 0) {
        context_bias[b * padded + i] = 0.5f;
        continue;
      }
      for (int64_t h = 0; h < kHeads; ++h) {
        const int64_t row = shape.tokens_first ? (b * tokens + token_index[i]) * kHeads + h
                                               : (b * kHeads + h) * tokens + token_index[i];
        for (auto* x : {&k, &v}) std::fill_n(x->begin() + row * channels, channels, encode(shape.dtype, NAN));
      }
    }
  }

  PrepareBlocksParams params{};
  params.batch = kBatch;
  params.heads = kHeads;
  params.head_dim = channels;
  params.num_context = shape.num_context;
  params.num_video = shape.num_video;
  params.q_cell_size = shape.q_cell_size;
  params.k_cell_size = shape.k_cell_size;
  params.tail_block_size = shape.tail_block_size;
  const Strides strides = shape.tokens_first ? Strides{tokens * kHeads * channels, channels, kHeads * channels}
                                             : Strides{kHeads * tokens * channels, tokens * channels, channels};
  params.q = params.k = params.v = {nullptr, strides, shape.dtype};
  const int64_t num_q_means = heads * ceil_div(shape.num_video, shape.q_cell_size) * channels;
  const int64_t num_k_means = heads * ceil_div(shape.num_video, shape.k_cell_size) * channels;
  const int64_t tails = shape.tail_block_size ? heads * ceil_div(shape.num_video, shape.tail_block_size) * channels : 0;

  std::vector<uint16_t> k_carved(heads * carved_rows * channels), v_carved(k_carved.size()), k_tail(tails),
      v_tail(tails), q_means(num_q_means), k_means(num_k_means);
  PrepareBlocksParams host = params;
  host.q.data = q.data();
  host.k.data = k.data();
  host.v.data = v.data();
  host.token_index = token_index.data();
  host.context_bias = padded ? context_bias.data() : nullptr;
  host.k_carved = k_carved.data();
  host.v_carved = v_carved.data();
  host.q_means = q_means.data();
  host.k_means = k_means.data();
  host.k_tail = tails ? k_tail.data() : nullptr;
  host.v_tail = tails ? v_tail.data() : nullptr;
  reference::prepare_blocks(host);

  const DeviceArray device_q(q), device_k(k), device_v(v);
  const DeviceArray device_index(token_index);
  const DeviceArray device_bias(context_bias);
  const DeviceArray<uint16_t> device_k_carved(k_carved.size()), device_v_carved(k_carved.size()), device_k_tail(tails),
      device_v_tail(tails), device_q_means(num_q_means), device_k_means(num_k_means);
  params.q.data = device_q.get();
  params.k.data = device_k.get();
  params.v.data = device_v.get();
  params.token_index = device_index.get();
  params.context_bias = padded ? device_bias.get() : nullptr;
  params.k_carved = device_k_carved.get();
  params.v_carved = device_v_carved.get();
  params.q_means = device_q_means.get();
  params.k_means = device_k_means.get();
  params.k_tail = device_k_tail.get();
  params.v_tail = device_v_tail.get();
  ASSERT_EQ(cuda::prepare_blocks(params, nullptr, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);

  EXPECT_EQ(device_k_carved.download(), k_carved);
  EXPECT_EQ(device_v_carved.download(), v_carved);
  // A mean of values below 8 is at most that: fp32 rounding can move it across one boundary of the dtype.
  const double unit = shape.dtype == DataType::kBFloat16 ? 1.0 / 128 : 1.0 / 1024;
  const auto expect_cells = [&](const std::vector<uint16_t>& got, const std::vector<uint16_t>& want) {
    for (size_t i = 0; i < want.size(); ++i) {
      const float exact = decode(shape.dtype, want[i]);
      ASSERT_NEAR(decode(shape.dtype, got[i]), exact, unit * std::abs(exact) + 1e-6) << i;
    }
  };
  expect_cells(device_q_means.download(), q_means);
  expect_cells(device_k_means.download(), k_means);
  expect_cells(device_k_tail.download(), k_tail);
  expect_cells(device_v_tail.download(), v_tail);
}

INSTANTIATE_TEST_SUITE_P(Cases, PrepareBlocks,
                         ::testing::Values(PrepareCase{"Whole", 0, 512, 128, 16, 8, 64},
                                           PrepareCase{"Ragged", 77, 585, 128, 16, 8, 32},
                                           PrepareCase{"Blocks", 20, 300, 64, 128, 64, 64, true},
                                           PrepareCase{"OneToken", 128, 1, 128, 16, 8, 64},
                                           PrepareCase{"NoTail", 5, 203, 128, 8, 16, 0, true},
                                           PrepareCase{"HeadDim8", 3, 150, 8, 16, 8, 32},
                                           PrepareCase{"HeadDim24", 3, 150, 24, 8, 8, 64},
                                           PrepareCase{"HeadDim40", 0, 150, 40, 32, 8, 128, true},
                                           PrepareCase{"HeadDim96", 10, 150, 96, 64, 32, 64},
                                           PrepareCase{"HeadDim256", 6, 150, 256, 16, 8, 64},
                                           PrepareCase{"Fp16", 9, 400, 128, 16, 128, 128, true, DataType::kFloat16}),
                         [](const auto& info) { return std::string(info.param.name); });

// A refusal needs no GPU. A kernel that started would leave the context unusable.
TEST(PrepareBlocksSupport, RefusesRowsOffSixteenBytes) {
  alignas(16) uint16_t memory[16] = {};
  PrepareBlocksParams params{};
  params.q = params.k = params.v = {memory, {8, 8, 8}, DataType::kBFloat16};
  params.batch = params.heads = params.num_video = 1;
  params.head_dim = 8;
  params.q_cell_size = params.k_cell_size = 128;
  PrepareBlocksParams off = params;
  off.k.data = memory + 1;
  EXPECT_EQ(cuda::prepare_blocks(off, nullptr, nullptr), CUDA_ERROR_MISALIGNED_ADDRESS);
  off = params;
  off.v.strides.token = 12;
  EXPECT_EQ(cuda::prepare_blocks(off, nullptr, nullptr), CUDA_ERROR_MISALIGNED_ADDRESS);
}

}  // namespace
}  // namespace jenga::testing
