// The sm_80 attention kernel with int8 keys, on any GPU, against the reference on the host, which rounds keys, scales
// and queries in the same way: values, lse, every row written, bitwise repeatable.
#include <gtest/gtest.h>

#include "kernels/cuda/sm80/attention.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/device_array.h"
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
  const AttentionCase& shape = GetParam();
  const HostCase host(shape);
  const int64_t rows = shape.batch * shape.heads * shape.tokens(), elements = rows * shape.head_dim;

  BlockSparseAttentionParams params = host.params();
  std::vector<float> wanted(elements), wanted_lse(rows);
  params.out = {wanted.data(), params.q.strides, DataType::kFloat32};
  params.lse = wanted_lse.data();
  reference::block_sparse_attention(params);

  const DeviceArray q(host.q), v(host.v), v_tail(host.v_tail);
  const DeviceArray k(host.k.codes), k_tail(host.k_tail.codes);
  const DeviceArray k_scale(host.k.scales), k_tail_scale(host.k_tail.scales), center(host.center);
  const DeviceArray index(host.data.index), count(host.data.count), token_index(host.data.token_index);
  const DeviceArray bias(host.data.context_bias), residual_scale(host.data.residual_scale);
  const DeviceArray residual(host.data.residual_bytes);
  params.q.data = q.get();
  params.k_carved.data = k.get();
  params.k_carved.scale = k_scale.get();
  params.v_carved.data = v.get();
  params.k_tail.data = k_tail.get();
  params.k_tail.scale = k_tail_scale.get();
  params.v_tail.data = v_tail.get();
  params.kv_block_index = index.get();
  params.kv_block_count = count.get();
  params.token_index = token_index.get();
  params.context_bias = bias.get();
  params.residual = residual.get();
  params.residual_scale = residual_scale.get();
  params.k_center = center.get();
  ASSERT_TRUE(cuda::sm80::supports_int8_attention<128>(params));

  const DeviceArray<uint8_t> workspace(cuda::sm80::attention_workspace(params));
  std::vector<uint16_t> outs[2];
  std::vector<float> lses[2];
  for (int run = 0; run < 2; ++run) {
    const DeviceArray<uint16_t> out(elements);
    const DeviceArray<float> lse(rows);
    params.out = {out.get(), params.q.strides, shape.dtype};
    params.lse = lse.get();
    ASSERT_EQ(launch(params, workspace.get()), CUDA_SUCCESS);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    outs[run] = out.download();
    lses[run] = lse.download();
  }
  EXPECT_EQ(outs[0], outs[1]);
  EXPECT_EQ(lses[0], lses[1]);

  const AttentionResult exact = host.data.exact();
  std::vector<double> out;
  for (uint16_t bits : outs[0]) out.push_back(decode(shape.dtype, bits));
  // Written so that a NaN fails. As far from the reference as 16-bit values and weights make it.
  const double error = relative_error(out, {wanted.begin(), wanted.end()});
  EXPECT_TRUE(error <= 2 * relative_error(host.data.plain().out, exact.out) + 1e-3) << "relative error " << error;
  for (int64_t i = 0; i < rows; ++i) {
    if (std::isinf(wanted_lse[i])) {
      EXPECT_EQ(lses[0][i], wanted_lse[i]) << "row " << i;
    } else {
      EXPECT_NEAR(lses[0][i], wanted_lse[i], 5e-3) << "row " << i;
    }
  }
}

constexpr DataType kHalf = DataType::kFloat16;
INSTANTIATE_TEST_SUITE_P(
    Cases, Sm80Int8Attention,
    ::testing::Values(
        AttentionCase{.name = "Dense", .num_video = 512, .lists = Lists::kFull}, AttentionCase{.name = "Random64"},
        AttentionCase{.name = "Random128", .kv_block_size = 128}, AttentionCase{.name = "Fp16", .dtype = kHalf},
        AttentionCase{.name = "Uneven", .num_video = 900, .lists = Lists::kUneven, .heads = 3},
        AttentionCase{.name = "Empty", .lists = Lists::kEmpty},
        AttentionCase{.name = "EmptyButContext", .num_context = 20, .lists = Lists::kEmpty},
        AttentionCase{.name = "RaggedBlockOnly", .num_video = 450, .kv_block_size = 128, .lists = Lists::kLast},
        AttentionCase{.name = "OneToken", .num_video = 1, .lists = Lists::kFull},
        AttentionCase{.name = "BiasedContext", .num_context = 77, .bias = Bias::kFinite},
        AttentionCase{.name = "MaskedContext", .num_context = 200, .kv_block_size = 128, .bias = Bias::kMasked},
        AttentionCase{.name = "Tail64Blocks64", .num_context = 50, .num_video = 900, .tail_block_size = 64},
        AttentionCase{.name = "Tail32Blocks64", .num_video = 900, .tail_block_size = 32, .lists = Lists::kUneven},
        AttentionCase{.name = "Tail32Blocks128", .num_video = 900, .kv_block_size = 128, .tail_block_size = 32},
        AttentionCase{.name = "Tail128Blocks128", .num_video = 900, .kv_block_size = 128, .tail_block_size = 128},
        AttentionCase{.name = "TailEverythingDropped", .tail_block_size = 64, .lists = Lists::kEmpty},
        AttentionCase{.name = "TailManyUnits", .num_video = 4500, .tail_block_size = 32, .heads = 1},
        AttentionCase{.name = "Batch3", .num_context = 33, .tail_block_size = 64, .bias = Bias::kMasked, .batch = 3},
        AttentionCase{.name = "HeadDim16", .head_dim = 16, .num_context = 3},
        AttentionCase{.name = "HeadDim48", .head_dim = 48, .tail_block_size = 64},
        AttentionCase{.name = "HeadDim64", .head_dim = 64, .num_context = 10},
        AttentionCase{.name = "HeadDim96", .head_dim = 96, .num_context = 10, .tail_block_size = 64},
        AttentionCase{.name = "ResidualFp32", .residual = ResidualType::kFloat32},
        AttentionCase{.name = "ResidualInt8", .num_context = 30, .residual = ResidualType::kInt8},
        AttentionCase{.name = "ResidualInt4", .num_context = 30, .residual = ResidualType::kInt4}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::testing
