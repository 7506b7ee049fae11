// The attention kernels of mma.sync, with the tiles of sm_80 and of sm_86, on any GPU, against fp64 on the host:
// values, lse, every row written, bitwise repeatable.
#include <gtest/gtest.h>

#include "kernels/cuda/sm80/attention.h"
#include "kernels/cuda/sm86/attention.h"
#include "tests/cpp/cuda/attention_case.h"
#include "tests/cpp/cuda/device_array.h"

namespace jenga::testing {
namespace {

enum class Tiles { kSm80, kSm86 };

CUresult launch_smallest(Tiles tiles, const BlockSparseAttentionParams& params, void* workspace) {
  if (tiles == Tiles::kSm86) {
    if (params.head_dim <= 128) return cuda::sm86::launch_attention<128>(params, workspace, nullptr);
    if (params.head_dim <= 192) return cuda::sm86::launch_attention<192>(params, workspace, nullptr);
    return cuda::sm86::launch_attention<256>(params, workspace, nullptr);
  }
  if (params.head_dim <= 32) return cuda::sm80::launch_attention<32>(params, workspace, nullptr);
  if (params.head_dim <= 64) return cuda::sm80::launch_attention<64>(params, workspace, nullptr);
  if (params.head_dim <= 96) return cuda::sm80::launch_attention<96>(params, workspace, nullptr);
  if (params.head_dim <= 128) return cuda::sm80::launch_attention<128>(params, workspace, nullptr);
  if (params.head_dim <= 192) return cuda::sm80::launch_attention<192>(params, workspace, nullptr);
  return cuda::sm80::launch_attention<256>(params, workspace, nullptr);
}

class Sm80Attention : public ::testing::TestWithParam<std::tuple<AttentionCase, Tiles>> {};

TEST_P(Sm80Attention, MatchesFp64AndRepeatsBitwise) {
  JENGA_SKIP_WITHOUT_DEVICE();
  const auto& [shape, tiles] = GetParam();
  const AttentionData data(shape, 1);
  const int64_t channels = shape.head_dim, rows = shape.batch * shape.heads * shape.tokens();
  const DeviceArray q(encoded(shape.dtype, data.q)), k(encoded(shape.dtype, data.k_carved)),
      v(encoded(shape.dtype, data.v_carved)), k_tail(encoded(shape.dtype, data.k_tail)),
      v_tail(encoded(shape.dtype, data.v_tail));
  const DeviceArray index(data.index), count(data.count), token_index(data.token_index);
  const DeviceArray bias(data.context_bias), residual_scale(data.residual_scale);
  const DeviceArray residual(data.residual_bytes);
  BlockSparseAttentionParams params{};
  const auto rows_of = [&](const auto& array, int64_t number) {
    return Operand{array.get(), contiguous(shape, number), shape.dtype};
  };
  params.q = rows_of(q, shape.tokens());
  params.k_carved = rows_of(k, shape.carved_rows());
  params.v_carved = rows_of(v, shape.carved_rows());
  params.k_tail = rows_of(k_tail, shape.tail_cells());
  params.v_tail = rows_of(v_tail, shape.tail_cells());
  params.kv_block_index = index.get();
  params.kv_block_count = count.get();
  params.token_index = token_index.get();
  params.context_bias = bias.get();
  params.residual = residual.get();
  params.residual_scale = residual_scale.get();
  params.residual_type = shape.residual;
  params.batch = shape.batch;
  params.heads = shape.heads;
  params.head_dim = channels;
  params.num_context = shape.num_context;
  params.num_video = shape.num_video;
  params.max_kv = shape.kv_blocks();
  params.q_block_size = 128;
  params.kv_block_size = shape.kv_block_size;
  params.tail_block_size = shape.tail_block_size;
  params.softmax_scale = data.softmax_scale();
  ASSERT_TRUE(cuda::sm80::supports_attention<256>(params));

  const DeviceArray<uint8_t> workspace(cuda::sm80::attention_workspace(params));
  std::vector<uint16_t> outs[2];
  std::vector<float> lses[2];
  for (int run = 0; run < 2; ++run) {
    const DeviceArray<uint16_t> out(rows * channels);
    const DeviceArray<float> lse(rows);
    params.out = {out.get(), params.q.strides, shape.dtype};
    params.lse = lse.get();
    ASSERT_EQ(launch_smallest(tiles, params, workspace.get()), CUDA_SUCCESS);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    outs[run] = out.download();
    lses[run] = lse.download();
  }
  EXPECT_EQ(outs[0], outs[1]);
  EXPECT_EQ(lses[0], lses[1]);

  const AttentionResult exact = data.exact();
  std::vector<double> out;
  for (uint16_t bits : outs[0]) out.push_back(decode(shape.dtype, bits));
  // Written so that a NaN fails.
  const double error = relative_error(out, exact.out);
  EXPECT_TRUE(error <= 2 * relative_error(data.plain().out, exact.out)) << "relative error " << error;
  for (int64_t i = 0; i < rows; ++i) {
    if (std::isinf(exact.lse[i])) {
      EXPECT_EQ(lses[0][i], exact.lse[i]) << "row " << i;
    } else {
      EXPECT_NEAR(lses[0][i], exact.lse[i], 1e-3) << "row " << i;
    }
  }
}

constexpr DataType kHalf = DataType::kFloat16;
const auto kCases = ::testing::Values(
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
    AttentionCase{.name = "HeadDim8", .head_dim = 8, .num_context = 3},
    AttentionCase{.name = "HeadDim40", .head_dim = 40, .tail_block_size = 64},
    AttentionCase{.name = "HeadDim64", .head_dim = 64, .num_context = 10},
    AttentionCase{.name = "HeadDim96", .head_dim = 96, .num_context = 10},
    AttentionCase{.name = "HeadDim192", .head_dim = 192, .num_context = 10, .tail_block_size = 64},
    AttentionCase{.name = "HeadDim256", .dtype = kHalf, .head_dim = 256, .num_context = 10},
    AttentionCase{.name = "ResidualFp32", .residual = ResidualType::kFloat32},
    AttentionCase{.name = "ResidualBf16", .num_context = 30, .residual = ResidualType::kBFloat16},
    AttentionCase{.name = "ResidualInt8", .num_context = 30, .residual = ResidualType::kInt8},
    AttentionCase{.name = "ResidualInt4", .num_context = 30, .residual = ResidualType::kInt4});
INSTANTIATE_TEST_SUITE_P(Cases, Sm80Attention,
                         ::testing::Combine(kCases, ::testing::Values(Tiles::kSm80, Tiles::kSm86)),
                         [](const auto& info) {
                           const bool sm80 = std::get<1>(info.param) == Tiles::kSm80;
                           return std::string(std::get<0>(info.param).name) + (sm80 ? "" : "TilesOfSm86");
                         });

}  // namespace
}  // namespace jenga::testing
