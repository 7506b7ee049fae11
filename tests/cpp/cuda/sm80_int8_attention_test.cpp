// The sm_80 attention kernel with int8 keys, on any GPU, against the reference on the host, which rounds keys, scales
// and queries in the same way: values, lse, every row written, bitwise repeatable.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include "kernels/cuda/sm80/attention.h"
#include "kernels/reference/quantise.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/attention_case.h"
#include "tests/cpp/cuda/device_array.h"

namespace jenga::testing {
namespace {

std::vector<uint16_t> encoded(DataType dtype, const std::vector<float>& values) {
  std::vector<uint16_t> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), [dtype](float value) { return encode(dtype, value); });
  return bits;
}

// Rows about a center as codes and scales. A row of zeros, which is no token, stays one.
struct Codes {
  std::vector<int8_t> codes;
  std::vector<float> scales;

  // center: [heads, channels] of rows_per_head rows each.
  Codes(const std::vector<float>& rows, const std::vector<float>& center, int64_t rows_per_head, int64_t channels) {
    for (size_t row = 0; row * channels < rows.size(); ++row) {
      std::vector<float> rest(&rows[row * channels], &rows[row * channels] + channels);
      const bool is_token = std::any_of(rest.begin(), rest.end(), [](float x) { return x != 0; });
      for (int64_t c = 0; is_token && c < channels; ++c) rest[c] -= center[row / rows_per_head * channels + c];
      std::vector<int8_t> row_codes;
      scales.push_back(reference::quantise_row(rest, row_codes));
      codes.insert(codes.end(), row_codes.begin(), row_codes.end());
    }
  }
};

CUresult launch(const BlockSparseAttentionParams& params, void* workspace) {
  return params.head_dim <= 64 ? cuda::sm80::launch_int8_attention<64>(params, workspace, nullptr)
                               : cuda::sm80::launch_int8_attention<128>(params, workspace, nullptr);
}

// One case in memory of the host, from which device memory is made.
struct HostCase {
  const AttentionCase& shape;
  AttentionData data;
  std::vector<uint16_t> q, v, v_tail;
  std::vector<float> center;
  Codes k, k_tail;

  explicit HostCase(const AttentionCase& which)
      : shape(which),
        data(which, 1),
        q(encoded(which.dtype, data.q)),
        v(encoded(which.dtype, data.v_carved)),
        v_tail(encoded(which.dtype, data.v_tail)),
        center(centers()),
        k(data.k_carved, center, which.carved_rows(), which.head_dim),
        k_tail(data.k_tail, center, std::max<int64_t>(1, which.tail_cells()), which.head_dim) {}

  std::vector<float> centers() const {
    const int64_t rows = shape.carved_rows(), channels = shape.head_dim;
    std::vector<float> means(shape.batch * shape.heads * channels, 0.f);
    for (int64_t head = 0; head < shape.batch * shape.heads; ++head) {
      for (int64_t row = shape.padded_context(); row < rows; ++row) {
        for (int64_t c = 0; c < channels; ++c) {
          means[head * channels + c] += data.k_carved[(head * rows + row) * channels + c] / shape.num_video;
        }
      }
    }
    return means;
  }

  // Sizes and host memory; the test replaces pointers by those of the device.
  BlockSparseAttentionParams params() const {
    const auto rows_of = [&](const void* memory, int64_t number, DataType dtype, const float* scale = nullptr) {
      return Operand{memory, contiguous(shape, number), dtype, scale};
    };
    BlockSparseAttentionParams p{};
    p.q = rows_of(q.data(), shape.tokens(), shape.dtype);
    p.k_carved = rows_of(k.codes.data(), shape.carved_rows(), DataType::kInt8, k.scales.data());
    p.v_carved = rows_of(v.data(), shape.carved_rows(), shape.dtype);
    if (shape.tail_cells() > 0) {
      p.k_tail = rows_of(k_tail.codes.data(), shape.tail_cells(), DataType::kInt8, k_tail.scales.data());
      p.v_tail = rows_of(v_tail.data(), shape.tail_cells(), shape.dtype);
    }
    p.kv_block_index = data.index.data();
    p.kv_block_count = data.count.data();
    p.token_index = data.token_index.data();
    p.context_bias = data.context_bias.empty() ? nullptr : data.context_bias.data();
    p.residual = data.residual_bytes.empty() ? nullptr : data.residual_bytes.data();
    p.residual_scale = data.residual_scale.empty() ? nullptr : data.residual_scale.data();
    p.residual_type = shape.residual;
    p.k_center = center.data();
    p.batch = shape.batch;
    p.heads = shape.heads;
    p.head_dim = shape.head_dim;
    p.num_context = shape.num_context;
    p.num_video = shape.num_video;
    p.max_kv = shape.kv_blocks();
    p.q_block_size = 128;
    p.kv_block_size = shape.kv_block_size;
    p.tail_block_size = shape.tail_block_size;
    p.softmax_scale = data.softmax_scale();
    return p;
  }
};

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
  // Written so that a NaN fails. As far from the reference as 16-bit values and weights make it, and codes that fall to
  // the other side where the kernel multiplies by an inverse.
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
