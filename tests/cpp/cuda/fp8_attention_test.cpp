// The attention kernels with int8 keys and e4m3 values, of sm_90a and of mma.sync, against fp64 and the reference on
// the host: values, lse, every row written, bitwise repeatable.
#include "kernels/cuda/sm89/fp8_attention.h"

#include <gtest/gtest.h>

#include "kernels/cuda/sm90/fp8_attention.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/device_array.h"
#include "tests/cpp/cuda/fp8_case.h"

namespace jenga::testing {
namespace {

enum class Products { kWarp, kWarpgroup };

class Fp8Attention : public ::testing::TestWithParam<std::tuple<AttentionCase, Products>> {
 protected:
  void SetUp() override {
    if (products() == Products::kWarpgroup && !device_is_hopper())
      GTEST_SKIP() << "needs a GPU of compute capability 9.0";
    if (!cuda::sm89::runs_on(device_capability())) GTEST_SKIP() << "needs a GPU of compute capability 8.9, 9.0 or 12";
  }
  static Products products() { return std::get<1>(GetParam()); }
  static bool supports(const BlockSparseAttentionParams& params) {
    return products() == Products::kWarp ? cuda::sm89::supports_fp8_attention(params)
                                         : cuda::sm90::supports_fp8_attention(params);
  }
  // Of both kinds, whichever is launched.
  static size_t workspace(const BlockSparseAttentionParams& params) {
    return std::max(cuda::sm80::attention_workspace(params), cuda::sm90::attention_workspace(params));
  }
  static CUresult launch(const BlockSparseAttentionParams& params, void* workspace) {
    return products() == Products::kWarp ? cuda::sm89::launch_fp8_attention(params, workspace, nullptr)
                                         : cuda::sm90::launch_fp8_attention(params, workspace, nullptr);
  }
};

TEST_P(Fp8Attention, IsAsNearToFp64AsTheReferenceAndRepeatsBitwise) {
  const AttentionCase& shape = std::get<0>(GetParam());
  const Fp8Case host(shape);
  const int64_t rows = shape.batch * shape.heads * shape.tokens(), elements = rows * shape.head_dim;
  BlockSparseAttentionParams params = host.blocks();
  const DeviceArray q(host.q);
  const DeviceArray k(host.k.codes), k_tail(host.k_tail.codes);
  const DeviceArray v(host.v_blocks), v_tail(host.v_tail_blocks);
  const DeviceArray k_scale(host.k.scales), k_tail_scale(host.k_tail.scales), k_center(host.center);
  const DeviceArray v_scale(host.v_scale), v_center(host.v_center);
  const DeviceArray index(host.data.index), count(host.data.count), token_index(host.data.token_index);
  const DeviceArray bias(host.data.context_bias), residual_scale(host.data.residual_scale);
  const DeviceArray residual(host.data.residual_bytes);
  params.q.data = q.get();
  params.k_carved.data = k.get();
  params.k_carved.scale = k_scale.get();
  params.v_carved.data = v.get();
  params.v_carved.scale = v_scale.get();
  if (shape.tail_cells() > 0) {
    params.k_tail.data = k_tail.get();
    params.k_tail.scale = k_tail_scale.get();
    params.v_tail.data = v_tail.get();
    params.v_tail.scale = v_scale.get();
  }
  params.kv_block_index = index.get();
  params.kv_block_count = count.get();
  params.token_index = token_index.get();
  params.context_bias = bias.get();
  params.residual = residual.get();
  params.residual_scale = residual_scale.get();
  params.k_center = k_center.get();
  params.v_center = v_center.get();
  ASSERT_TRUE(supports(params));

  const DeviceArray<uint8_t> memory(workspace(params));
  std::vector<uint16_t> outs[2];
  std::vector<float> lses[2];
  for (int run = 0; run < 2; ++run) {
    const DeviceArray<uint16_t> out(elements);
    const DeviceArray<float> lse(rows);
    params.out = {out.get(), params.q.strides, shape.dtype};
    params.lse = lse.get();
    ASSERT_EQ(launch(params, memory.get()), CUDA_SUCCESS);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    outs[run] = out.download();
    lses[run] = lse.download();
  }
  EXPECT_EQ(outs[0], outs[1]);
  EXPECT_EQ(lses[0], lses[1]);
  expect_as_near_as_the_reference(host, outs[0], lses[0]);
}

constexpr DataType kHalf = DataType::kFloat16;
const auto kCases = ::testing::Values(
    AttentionCase{.name = "Dense", .num_video = 512, .lists = Lists::kFull}, AttentionCase{.name = "Random64"},
    AttentionCase{.name = "Random128", .kv_block_size = 128}, AttentionCase{.name = "Fp16", .dtype = kHalf},
    AttentionCase{.name = "Uneven", .num_video = 900, .lists = Lists::kUneven, .heads = 3},
    AttentionCase{.name = "LongLists", .num_video = 4000, .lists = Lists::kFull, .heads = 1},
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
    AttentionCase{.name = "ContextBetweenHeads", .num_context = 10, .num_video = 200, .heads = 300},
    AttentionCase{.name = "ResidualFp32", .residual = ResidualType::kFloat32},
    AttentionCase{.name = "ResidualInt8", .num_context = 30, .residual = ResidualType::kInt8},
    AttentionCase{.name = "ResidualInt4", .num_context = 30, .residual = ResidualType::kInt4});
std::string name_of(const ::testing::TestParamInfo<std::tuple<AttentionCase, Products>>& info) {
  return std::get<0>(info.param).name;
}
INSTANTIATE_TEST_SUITE_P(Sm89, Fp8Attention, ::testing::Combine(kCases, ::testing::Values(Products::kWarp)), name_of);
INSTANTIATE_TEST_SUITE_P(Sm90, Fp8Attention, ::testing::Combine(kCases, ::testing::Values(Products::kWarpgroup)),
                         name_of);

}  // namespace
}  // namespace jenga::testing
