// The sm_90a attention kernel against fp64 on the host: values, lse, every row written, bitwise repeatable.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <stdexcept>

#include "kernels/cuda/sm90/attention.h"
#include "tests/cpp/cuda/attention_case.h"
#include "tests/cpp/cuda/device_array.h"
#include "tests/cpp/cuda/outputs.h"

namespace jenga::testing {
namespace {

#define ASSERT_CUDA(call) ASSERT_EQ(call, cudaSuccess)

// Device memory poisoned with NaNs of every float type.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t bytes) {
    if (bytes == 0) return;
    if (cudaMalloc(&pointer_, bytes) != cudaSuccess || cudaMemset(pointer_, 0xFF, bytes) != cudaSuccess)
      throw std::runtime_error("cudaMalloc failed");
  }
  template <class Value>
  explicit DeviceBuffer(const std::vector<Value>& values) : DeviceBuffer(values.size() * sizeof(Value)) {
    if (!values.empty()) upload(values);
  }
  ~DeviceBuffer() { cudaFree(pointer_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  template <class Value>
  void upload(const std::vector<Value>& values) {
    cudaMemcpy(pointer_, values.data(), values.size() * sizeof(Value), cudaMemcpyHostToDevice);
  }
  void* get() const { return pointer_; }

 private:
  void* pointer_ = nullptr;
};

Strides strides_of(const AttentionCase& shape, int64_t rows, Memory memory) {
  const int64_t channels = shape.head_dim;
  if (memory == Memory::kTokensFirst) return {rows * shape.heads * channels, channels, shape.heads * channels};
  const int64_t head = memory == Memory::kHeadsFarApart ? (int64_t{1} << 31) + 64 : rows * channels;
  return {shape.heads * head, head, channels};
}

// A [B, H, rows, D] tensor with the case's strides.
class StridedTensor {
 public:
  StridedTensor(const AttentionCase& shape, int64_t rows, Memory memory)
      : shape_(shape), rows_(rows), strides(strides_of(shape, rows, memory)), buffer_(extent() * sizeof(uint16_t)) {}

  void upload(const std::vector<float>& values) { copy(encoded(shape_.dtype, values), cudaMemcpyHostToDevice); }
  std::vector<uint16_t> download() const {
    std::vector<uint16_t> bits(shape_.batch * shape_.heads * rows_ * shape_.head_dim);
    copy(bits, cudaMemcpyDeviceToHost);
    return bits;
  }
  void poison() { cudaMemset(buffer_.get(), 0xFF, extent() * sizeof(uint16_t)); }
  void* get() const { return buffer_.get(); }

 private:
  int64_t extent() const {
    return (shape_.batch - 1) * strides.batch + (shape_.heads - 1) * strides.head + (rows_ - 1) * strides.token +
           shape_.head_dim;
  }
  template <class Bits>
  void copy(Bits&& bits, cudaMemcpyKind kind) const {
    const size_t row_bytes = shape_.head_dim * sizeof(uint16_t), pitch = strides.token * sizeof(uint16_t);
    for (int64_t head = 0; head < shape_.batch * shape_.heads; ++head) {
      auto* device = static_cast<uint16_t*>(buffer_.get()) + head / shape_.heads * strides.batch +
                     head % shape_.heads * strides.head;
      auto* host = const_cast<uint16_t*>(bits.data()) + head * rows_ * shape_.head_dim;
      const bool up = kind == cudaMemcpyHostToDevice;
      cudaMemcpy2D(up ? device : host, up ? pitch : row_bytes, up ? host : device, up ? row_bytes : pitch, row_bytes,
                   rows_, kind);
    }
  }

  AttentionCase shape_;
  int64_t rows_;

 public:
  Strides strides;

 private:
  DeviceBuffer buffer_;
};

// One case on the device; may run many times.
class DeviceCase {
 public:
  DeviceCase(const AttentionCase& shape, const AttentionData& data)
      : q_(shape, shape.tokens(), shape.memory),
        k_(shape, shape.carved_rows(), Memory::kHeadsFirst),
        v_(shape, shape.carved_rows(), Memory::kHeadsFirst),
        out_(shape, shape.tokens(), shape.memory),
        index(data.index),
        count(data.count),
        token_index_(data.token_index),
        context_bias_(data.context_bias),
        k_tail_(encoded(shape.dtype, data.k_tail)),
        v_tail_(encoded(shape.dtype, data.v_tail)),
        residual_(data.residual_bytes),
        residual_scale_(data.residual_scale),
        lse_(shape.batch * shape.heads * shape.tokens() * sizeof(float)) {
    params = data.sizes();
    q_.upload(data.q);
    k_.upload(data.k_carved);
    v_.upload(data.v_carved);
    const Strides cells = contiguous(shape, shape.tail_cells());
    params.q = {q_.get(), q_.strides, shape.dtype};
    params.k_carved = {k_.get(), k_.strides, shape.dtype};
    params.v_carved = {v_.get(), v_.strides, shape.dtype};
    params.k_tail = {k_tail_.get(), cells, shape.dtype};
    params.v_tail = {v_tail_.get(), cells, shape.dtype};
    params.kv_block_index = static_cast<const int32_t*>(index.get());
    params.kv_block_count = static_cast<const int32_t*>(count.get());
    params.token_index = static_cast<const int32_t*>(token_index_.get());
    params.context_bias = static_cast<const float*>(context_bias_.get());
    params.residual = residual_.get();
    params.residual_scale = static_cast<const float*>(residual_scale_.get());
    params.out = {out_.get(), out_.strides, shape.dtype};
    params.lse = static_cast<float*>(lse_.get());
    workspace_ = std::make_unique<DeviceBuffer>(cuda::sm90::attention_workspace(params));
  }

  CUresult launch(cudaStream_t stream = nullptr) {
    return params.head_dim == 128 ? cuda::sm90::launch_attention<128>(params, workspace_->get(), stream)
                                  : cuda::sm90::launch_attention<64>(params, workspace_->get(), stream);
  }

  void poison() { out_.poison(); }
  std::vector<uint16_t> out() const { return out_.download(); }
  std::vector<float> lse() const {
    std::vector<float> values(params.batch * params.heads * (params.num_context + params.num_video));
    cudaMemcpy(values.data(), lse_.get(), values.size() * sizeof(float), cudaMemcpyDeviceToHost);
    return values;
  }

  BlockSparseAttentionParams params{};

 private:
  StridedTensor q_, k_, v_, out_;

 public:
  DeviceBuffer index, count;

 private:
  DeviceBuffer token_index_, context_bias_, k_tail_, v_tail_, residual_, residual_scale_, lse_;
  std::unique_ptr<DeviceBuffer> workspace_;
};

void expect_right(const DeviceCase& device, const AttentionData& data, DataType dtype) {
  const AttentionResult exact = data.exact();
  expect_near(dtype, {device.out(), device.lse()}, exact, 2 * relative_error(data.plain().out, exact.out), 1e-3);
}

class Sm90Attention : public ::testing::TestWithParam<AttentionCase> {
 protected:
  void SetUp() override {
    if (!device_is_hopper()) GTEST_SKIP() << "needs a GPU of compute capability 9.0";
  }
};

TEST_P(Sm90Attention, MatchesFp64AndRepeatsBitwise) {
  const AttentionCase& shape = GetParam();
  const AttentionData data(shape, 1);
  DeviceCase device(shape, data);
  ASSERT_TRUE(shape.head_dim == 64 ? cuda::sm90::supports_attention<64>(device.params)
                                   : cuda::sm90::supports_attention<128>(device.params));
  ASSERT_EQ(device.launch(), CUDA_SUCCESS);
  ASSERT_CUDA(cudaDeviceSynchronize());
  const std::vector<uint16_t> first = device.out();
  const std::vector<float> first_lse = device.lse();
  device.poison();
  ASSERT_EQ(device.launch(), CUDA_SUCCESS);
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(device.out(), first);
  EXPECT_EQ(std::memcmp(device.lse().data(), first_lse.data(), first_lse.size() * sizeof(float)), 0);
  expect_right(device, data, shape.dtype);
}

constexpr DataType kHalf = DataType::kFloat16;
INSTANTIATE_TEST_SUITE_P(
    Cases, Sm90Attention,
    ::testing::Values(
        AttentionCase{.name = "DenseBlocks128", .num_video = 512, .kv_block_size = 128, .lists = Lists::kFull},
        AttentionCase{.name = "DenseBlocks64", .num_video = 512, .lists = Lists::kFull},
        AttentionCase{.name = "DenseHeadDim64", .head_dim = 64, .num_video = 512, .lists = Lists::kFull},
        AttentionCase{.name = "DenseFp16", .dtype = kHalf, .num_video = 512, .lists = Lists::kFull},
        AttentionCase{.name = "RandomFp16HeadDim64", .dtype = kHalf, .head_dim = 64}, AttentionCase{.name = "Random64"},
        AttentionCase{.name = "Random128", .kv_block_size = 128},
        AttentionCase{.name = "Uneven", .num_video = 900, .lists = Lists::kUneven, .heads = 3},
        AttentionCase{.name = "Empty", .lists = Lists::kEmpty},
        AttentionCase{.name = "EmptyButContext", .num_context = 20, .lists = Lists::kEmpty},
        AttentionCase{.name = "OneBlock", .lists = Lists::kOne},
        AttentionCase{.name = "RaggedBlockOnly", .num_video = 450, .lists = Lists::kLast},
        AttentionCase{.name = "OneToken", .num_video = 1, .lists = Lists::kFull},
        AttentionCase{.name = "AlignedContext", .num_context = 128},
        AttentionCase{.name = "RaggedContext", .num_context = 77},
        AttentionCase{.name = "BiasedContext", .num_context = 77, .bias = Bias::kFinite},
        AttentionCase{.name = "MaskedContext", .num_context = 200, .kv_block_size = 128, .bias = Bias::kMasked},
        AttentionCase{.name = "MostlyContext", .num_context = 300, .num_video = 5, .lists = Lists::kFull},
        AttentionCase{.name = "Tail64Blocks64", .num_context = 50, .num_video = 900, .tail_block_size = 64},
        AttentionCase{.name = "Tail32Blocks64", .num_video = 900, .tail_block_size = 32, .lists = Lists::kUneven},
        AttentionCase{.name = "Tail32Blocks128", .num_video = 900, .kv_block_size = 128, .tail_block_size = 32},
        AttentionCase{.name = "Tail64Blocks128", .num_video = 900, .kv_block_size = 128, .tail_block_size = 64},
        AttentionCase{.name = "Tail128Blocks128", .num_video = 900, .kv_block_size = 128, .tail_block_size = 128},
        AttentionCase{.name = "TailNothingDropped", .tail_block_size = 64, .lists = Lists::kFull},
        AttentionCase{.name = "TailEverythingDropped", .tail_block_size = 64, .lists = Lists::kEmpty},
        AttentionCase{.name = "TailManyUnits", .num_video = 4500, .tail_block_size = 32, .heads = 1},
        AttentionCase{.name = "Batch3", .num_context = 33, .tail_block_size = 64, .bias = Bias::kMasked, .batch = 3},
        AttentionCase{.name = "TokensFirst", .num_context = 40, .memory = Memory::kTokensFirst, .heads = 3},
        AttentionCase{.name = "ManyHeads", .num_context = 10, .num_video = 200, .heads = 9},
        AttentionCase{.name = "ContextBetweenHeads", .num_context = 10, .num_video = 200, .heads = 300},
        AttentionCase{.name = "ResidualFp32", .residual = ResidualType::kFloat32},
        AttentionCase{.name = "ResidualBf16", .num_context = 30, .residual = ResidualType::kBFloat16},
        AttentionCase{.name = "ResidualFp16", .dtype = kHalf, .residual = ResidualType::kFloat16},
        AttentionCase{.name = "ResidualInt8", .num_context = 30, .residual = ResidualType::kInt8},
        AttentionCase{.name = "ResidualInt4", .num_context = 30, .residual = ResidualType::kInt4},
        AttentionCase{.name = "ResidualInt4HeadDim64", .head_dim = 64, .residual = ResidualType::kInt4}),
    [](const auto& info) { return std::string(info.param.name); });

class Sm90AttentionDevice : public Sm90Attention {};
INSTANTIATE_TEST_SUITE_P(Device, Sm90AttentionDevice, ::testing::Values(AttentionCase{.name = "Random64"}));

TEST_P(Sm90AttentionDevice, HeadsMoreThanTwoToThe31ElementsApart) {
  AttentionCase shape = GetParam();
  shape.memory = Memory::kHeadsFarApart;
  size_t free_bytes = 0, total_bytes = 0;
  ASSERT_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
  if (free_bytes < size_t{12} << 30) GTEST_SKIP() << "needs 12 GiB of free device memory";
  const AttentionData data(shape, 2);
  DeviceCase device(shape, data);
  ASSERT_EQ(device.launch(), CUDA_SUCCESS);
  ASSERT_CUDA(cudaDeviceSynchronize());
  expect_right(device, data, shape.dtype);
}

TEST_P(Sm90AttentionDevice, GraphReplayReadsChangedLists) {
  AttentionCase shape = GetParam();
  shape.lists = Lists::kUneven;
  AttentionData data(shape, 3);
  DeviceCase device(shape, data);
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  ASSERT_CUDA(cudaStreamCreate(&stream));
  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  ASSERT_EQ(device.launch(stream), CUDA_SUCCESS);
  ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
  ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  for (int replay = 0; replay < 2; ++replay) {
    data.make_lists();
    device.index.upload(data.index);
    device.count.upload(data.count);
    ASSERT_CUDA(cudaGraphLaunch(executable, stream));
    ASSERT_CUDA(cudaStreamSynchronize(stream));
    expect_right(device, data, shape.dtype);
  }
  ASSERT_CUDA(cudaGraphExecDestroy(executable));
  ASSERT_CUDA(cudaGraphDestroy(graph));
  ASSERT_CUDA(cudaStreamDestroy(stream));
}

// Refusals need no GPU.
TEST(Sm90AttentionSupport, RefusesWhatItsCopiesCannotRead) {
  BlockSparseAttentionParams params{};
  params.batch = 1;
  params.heads = 2;
  params.head_dim = 128;
  params.num_video = 1000;
  params.q_block_size = 128;
  params.kv_block_size = 64;
  params.softmax_scale = 0.1f;
  const Strides strides{0, 128000, 128};
  params.q = params.k_carved = params.v_carved = {nullptr, strides, DataType::kBFloat16};
  params.out = {nullptr, strides, DataType::kBFloat16};
  EXPECT_TRUE(cuda::sm90::supports_attention<128>(params));
  auto refuses = [&](auto change) {
    BlockSparseAttentionParams changed = params;
    change(changed);
    return !cuda::sm90::supports_attention<128>(changed);
  };
  EXPECT_TRUE(refuses([](auto& p) { p.q.dtype = DataType::kFloat32; }));
  EXPECT_TRUE(refuses([](auto& p) { p.head_dim = 96; }));
  EXPECT_TRUE(refuses([](auto& p) { p.head_dim = 64; }));
  EXPECT_TRUE(refuses([](auto& p) { p.q_block_size = 64; }));
  EXPECT_TRUE(refuses([](auto& p) { p.softmax_scale = 0.f; }));
  EXPECT_TRUE(refuses([](auto& p) { p.q.strides.token = 132; }));
  EXPECT_TRUE(refuses([](auto& p) { p.out.strides.head = 128004; }));
  EXPECT_TRUE(refuses([](auto& p) { p.q.data = reinterpret_cast<const void*>(8); }));
  EXPECT_TRUE(refuses([](auto& p) {
    p.k_tail.data = p.v_tail.data = reinterpret_cast<const void*>(16);
    p.tail_block_size = 32;
    p.num_video = 32 * 8193;
  }));
}

TEST(Sm90AttentionSupport, RefusesMoreTilesThanItCanCount) {
  BlockSparseAttentionParams params{};
  params.q.dtype = DataType::kBFloat16;
  params.batch = int64_t{1} << 16;
  params.heads = 256;
  params.head_dim = 128;
  params.num_video = 256 * 128;  // 2^32 tiles: 0 in 32 bits
  params.q_block_size = 128;
  params.kv_block_size = 64;
  params.softmax_scale = 0.1f;
  EXPECT_EQ(cuda::sm90::launch_attention<128>(params, nullptr, nullptr), CUDA_ERROR_INVALID_VALUE);
}

}  // namespace
}  // namespace jenga::testing
