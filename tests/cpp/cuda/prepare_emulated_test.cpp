// prepare_blocks on the host, thread by thread (emulated/), in 16 bits, with int8 keys and with e4m3 values, against
// the reference.
#include <gtest/gtest.h>

#include "tests/cpp/cuda/emulated/block.h"
// The stand-ins come first: the kernels below are written in CUDA's terms.
#include "kernels/cuda/driver/kernel.h"
#define JENGA_DEFINE_KERNEL(...)
#define JENGA_DEFINE_KERNEL_PAIR(...)
#include "kernels/cuda/common/prepare_blocks.cu"
#include "kernels/cuda/common/quantise_tail.cu"
#include "kernels/cuda/common/sample_centers.cu"
#include "kernels/cuda/common/scale_values.cu"
#include "kernels/numeric.h"
#include "kernels/reference/quantise.h"
#include "kernels/reference/reference.h"
#include "kernels/value_blocks.h"
#include "tests/cpp/cuda/attention_case.h"

namespace jenga::testing {
namespace {

constexpr DataType kType = DataType::kBFloat16;
constexpr int64_t kHeads = 2, kCell = 16;
enum class Bits { kSixteen, kInt8Keys, kFloat8Values };  // the last with int8 keys

struct Case {
  const char* name;
  int64_t num_context, num_video, head_dim, tail_block_size;
  float constant = 0.f, outlier = 1.f;  // added to every key; factor of one channel
  int64_t beyond = -1;                  // carved row of head 1 whose value is far beyond all others in two channels
};

// Inputs of one call; every third context column is masked and holds NaN.
struct Inputs {
  int64_t tokens, padded;
  std::vector<uint16_t> k, v;
  std::vector<int32_t> token_index;
  std::vector<float> bias;

  explicit Inputs(const Case& c) : tokens(c.num_context + c.num_video), padded(round_up(c.num_context, 128)) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < kHeads * tokens * c.head_dim; ++i) {
      const int64_t channel = i % c.head_dim;
      const float key =
          normal(random) * (channel == 1 ? c.outlier : 1.f) + c.constant * static_cast<float>(channel % 5);
      k.push_back(encode(kType, key));
      v.push_back(encode(kType, normal(random)));
    }
    token_index.resize(tokens);
    std::iota(token_index.begin(), token_index.end(), 0);
    std::shuffle(token_index.begin(), token_index.end(), random);
    bias.assign(padded, -std::numeric_limits<float>::infinity());
    for (int64_t i = 0; i < c.num_context; ++i) {
      if (i % 3 != 0) bias[i] = 0.5f;
      for (int64_t h = 0; i % 3 == 0 && h < kHeads; ++h)
        std::fill_n(k.begin() + (h * tokens + token_index[i]) * c.head_dim, c.head_dim, encode(kType, NAN));
    }
    if (c.beyond < 0) return;
    for (int64_t row = 0; row < tokens; ++row) {  // channel 3 has nothing else
      uint16_t* const values = v.data() + (tokens + token_index[row]) * c.head_dim;
      values[3] = encode(kType, row == c.beyond ? 2e-3f : 0.f);
      if (row == c.beyond) values[2] = encode(kType, -1e3f);
    }
  }
};

// Outputs of one call; k_carved and k_tail hold 16 bits or codes.
struct Outputs {
  std::vector<uint16_t> k_carved, v_carved, k_tail, v_tail, q_means, k_means;
  std::vector<float> k_scale, k_tail_scale, k_center, v_scale, v_center;

  PrepareBlocksParams params(const Case& c, const Inputs& in, Bits bits) {
    const int64_t rows = in.padded + c.num_video,
                  cells = c.tail_block_size ? ceil_div(c.num_video, c.tail_block_size) : 0;
    for (auto* x : {&k_carved, &v_carved}) x->assign(kHeads * rows * c.head_dim, 0xFFFF);
    for (auto* x : {&k_tail, &v_tail}) x->assign(kHeads * cells * c.head_dim, 0xFFFF);
    for (auto* x : {&q_means, &k_means}) x->assign(kHeads * ceil_div(c.num_video, kCell) * c.head_dim, 0xFFFF);
    k_scale.assign(kHeads * scales_of_keys(rows), NAN);
    k_tail_scale.assign(kHeads * scales_of_keys(cells), NAN);
    for (auto* x : {&k_center, &v_center}) x->assign(kHeads * c.head_dim, NAN);
    v_scale.assign(kHeads * c.head_dim, NAN);
    const Strides strides{kHeads * in.tokens * c.head_dim, in.tokens * c.head_dim, c.head_dim};
    PrepareBlocksParams p{};
    p.k = {in.k.data(), strides, kType};
    p.q = p.v = {in.v.data(), strides, kType};
    p.token_index = in.token_index.data();
    p.context_bias = in.padded ? in.bias.data() : nullptr;
    p.k_carved = k_carved.data();
    p.v_carved = v_carved.data();
    p.q_means = q_means.data();
    p.k_means = k_means.data();
    p.k_tail = cells ? k_tail.data() : nullptr;
    p.v_tail = cells ? v_tail.data() : nullptr;
    p.batch = 1;
    p.heads = kHeads;
    p.head_dim = c.head_dim;
    p.num_context = c.num_context;
    p.num_video = c.num_video;
    p.q_cell_size = p.k_cell_size = kCell;
    p.tail_block_size = c.tail_block_size;
    if (bits == Bits::kSixteen) return p;
    p.k_scale = k_scale.data();
    p.k_tail_scale = k_tail_scale.data();
    p.k_center = k_center.data();
    if (bits == Bits::kInt8Keys) return p;
    p.v_scale = v_scale.data();
    p.v_center = v_center.data();
    return p;
  }
};

// operands: keys alone, or values too.
void sample_centers(const cuda::PrepareArguments& args, int64_t operands) {
  emulated::Block block(cuda::kSampleThreads);
  const int64_t grid = operands * kHeads * args.params.head_dim / cuda::kSampleChannels;
  for (int i = 0; i < grid; ++i) block.run(i, [&] { cuda::sample_centers<__nv_bfloat16>(args); });
}

// Scales and codes of values far beyond the sampled ones.
void prepare_values_again(const cuda::PrepareArguments& args) {
  emulated::Block scaling(cuda::kScaleThreads), block(cuda::kPrepareThreads);
  const int64_t parts = ceil_div(args.params.num_context + args.params.num_video, cuda::kScaleRows);
  for (int i = 0; i < kHeads * parts; ++i) scaling.run(i, [&] { cuda::scale_values<__nv_bfloat16>(args); });
  for (int i = 0; i < kHeads * cuda::kAgainBlocks; ++i) {
    if (i % cuda::kAgainBlocks < args.tiles)  // others have none
      block.run(i, [&] { cuda::prepare_values_again<__nv_bfloat16>(args); });
  }
}

// Returns of which heads values were coded twice.
template <Bits kBits>
std::vector<int32_t> run(const PrepareBlocksParams& p) {
  constexpr bool kInt8 = kBits != Bits::kSixteen, kFloat8 = kBits == Bits::kFloat8Values;
  const auto context = static_cast<int32_t>(ceil_div(p.num_context, 128));
  const int64_t cells = kInt8 && p.k_tail ? ceil_div(p.num_video, p.tail_block_size) : 0;
  std::vector<float> tail_means(kHeads * cells * p.head_dim, NAN);
  std::vector<int32_t> is_beyond(kHeads, -1);
  const int32_t tiles = context + static_cast<int32_t>(ceil_div(p.num_video, 128));
  const cuda::PrepareArguments args{p, context, tiles, 3, tail_means.data(), is_beyond.data()};
  if (kInt8) sample_centers(args, kFloat8 ? 2 : 1);
  emulated::Block block(cuda::kPrepareThreads);
  for (int i = 0; i < kHeads * args.operands * args.tiles; ++i) {
    block.run(i, [&] {
      if constexpr (kFloat8) return cuda::prepare_blocks<__nv_bfloat16, 16, true, true>(args);
      switch (cuda::lanes_per_row(p.head_dim)) {
        case 2:
          return cuda::prepare_blocks<__nv_bfloat16, 2, kInt8>(args);
        case 8:
          return cuda::prepare_blocks<__nv_bfloat16, 8, kInt8>(args);
        default:
          return cuda::prepare_blocks<__nv_bfloat16, 16, kInt8>(args);
      }
    });
  }
  emulated::Block quantising(cuda::kQuantiseThreads);
  const cuda::QuantiseTailArguments tail{tail_means.data(), static_cast<int8_t*>(p.k_tail), p.k_tail_scale, cells,
                                         p.head_dim};
  for (int i = 0; i < kHeads * scales_of_keys(cells); ++i) quantising.run(i, [&] { cuda::quantise_tail(tail); });
  if (kFloat8) prepare_values_again(args);
  return is_beyond;
}

// Means are equal to rounding: neighbours of 16 bits.
void expect_close(const std::vector<uint16_t>& got, const std::vector<uint16_t>& want) {
  for (size_t i = 0; i < want.size(); ++i) {
    const float exact = decode(kType, want[i]);
    ASSERT_NEAR(decode(kType, got[i]), exact, std::abs(exact) / 128 + 1e-6) << i;
  }
}
void expect_close(const std::vector<float>& got, const std::vector<float>& want) {
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-5 * std::abs(want[i]) + 1e-5) << i;
}
// Codes lie in the first bytes of memory for twice as much.
void expect_codes(const std::vector<uint16_t>& got, const std::vector<uint16_t>& want) {
  const auto* a = reinterpret_cast<const int8_t*>(got.data());
  const auto* b = reinterpret_cast<const int8_t*>(want.data());
  for (size_t i = 0; i < 2 * want.size(); ++i) ASSERT_LE(std::abs(a[i] - b[i]), 1) << i;
}

class PrepareEmulated : public ::testing::TestWithParam<Case> {};

TEST_P(PrepareEmulated, MatchesTheReferenceInSixteenBitsAndWithInt8Keys) {
  const Case& c = GetParam();
  const Inputs in(c);
  Outputs want, got;
  reference::prepare_blocks(want.params(c, in, Bits::kSixteen));
  run<Bits::kSixteen>(got.params(c, in, Bits::kSixteen));
  EXPECT_EQ(got.k_carved, want.k_carved);
  EXPECT_EQ(got.v_carved, want.v_carved);
  expect_close(got.k_tail, want.k_tail);
  reference::prepare_blocks(want.params(c, in, Bits::kInt8Keys));
  run<Bits::kInt8Keys>(got.params(c, in, Bits::kInt8Keys));
  expect_codes(got.k_carved, want.k_carved);
  expect_codes(got.k_tail, want.k_tail);
  expect_close(got.k_scale, want.k_scale);
  expect_close(got.k_tail_scale, want.k_tail_scale);
  expect_close(got.k_center, want.k_center);
  EXPECT_EQ(got.v_carved, want.v_carved);
  expect_close(got.v_tail, want.v_tail);
  expect_close(got.q_means, want.q_means);
  expect_close(got.k_means, want.k_means);
}

// More samples than the threads of a block take at a time, of keys and values.
TEST(SampleCentersEmulated, AreMeansOfAllSamplesAndTellScales) {
  const Case c{"", 3, 16 * 2500 + 1, 32, 0};
  const Inputs in(c);
  Outputs got;
  const PrepareBlocksParams p = got.params(c, in, Bits::kFloat8Values);
  std::vector<int32_t> is_beyond(kHeads, -1);
  sample_centers({.params = p, .is_beyond = is_beyond.data()}, 2);
  std::vector<float> k_center, v_center, v_scale;
  for (int64_t head = 0; head < kHeads; ++head) {
    for (const float x : reference::center_of(p, p.k, head * p.k.strides.head)) k_center.push_back(x);
    const std::vector<float> center = reference::center_of(p, p.v, head * p.v.strides.head);
    v_center.insert(v_center.end(), center.begin(), center.end());
    for (const float x : reference::sampled_scales(p, p.v, head * p.v.strides.head, center)) v_scale.push_back(x);
  }
  expect_close(got.k_center, k_center);
  expect_close(got.v_center, v_center);
  expect_close(got.v_scale, v_scale);
  EXPECT_EQ(is_beyond, std::vector<int32_t>(kHeads));
}

// Codes of values, rows of `want` and blocks of `got`: within a step of e4m3, and zeros behind the last row.
void expect_blocks(const std::vector<uint16_t>& got, const std::vector<uint16_t>& want, int64_t rows,
                   int64_t channels) {
  const auto* a = reinterpret_cast<const uint8_t*>(got.data());
  const auto* b = reinterpret_cast<const uint8_t*>(want.data());
  const int64_t padded = round_up(rows, kValueBlockKeys);
  for (int64_t head = 0; head < kHeads; ++head) {
    for (int64_t row = 0; row < padded; ++row) {
      for (int64_t c = 0; c < channels; ++c) {
        const float found = fp8_to_float(a[head * padded * channels + value_offset(row, c, channels)]);
        const float wanted = row < rows ? fp8_to_float(b[(head * rows + row) * channels + c]) : 0.f;
        ASSERT_NEAR(found, wanted, std::max(std::abs(wanted) / 8, 0x1p-9f)) << "row " << row << " channel " << c;
      }
    }
  }
}

class PrepareFloat8Emulated : public ::testing::TestWithParam<Case> {};

TEST_P(PrepareFloat8Emulated, MatchesTheReference) {
  const Case& c = GetParam();
  const Inputs in(c);
  Outputs want, got;
  reference::prepare_blocks(want.params(c, in, Bits::kFloat8Values));
  PrepareBlocksParams params = got.params(c, in, Bits::kFloat8Values);
  // Larger than rows, and as the launch leaves it.
  const int64_t rows = in.padded + c.num_video,
                cells = c.tail_block_size ? ceil_div(c.num_video, c.tail_block_size) : 0;
  got.v_carved.assign(kHeads * round_up(rows, kValueBlockKeys) * c.head_dim / 2, 0xFFFF);
  got.v_tail.assign(kHeads * round_up(cells, kValueBlockKeys) * c.head_dim / 2, 0);
  params.v_carved = got.v_carved.data();
  if (cells > 0) params.v_tail = got.v_tail.data();
  const std::vector<int32_t> again = run<Bits::kFloat8Values>(params);
  expect_close(got.v_center, want.v_center);
  expect_close(got.v_scale, want.v_scale);
  expect_blocks(got.v_carved, want.v_carved, rows, c.head_dim);
  if (cells > 0) expect_blocks(got.v_tail, want.v_tail, cells, c.head_dim);
  expect_codes(got.k_carved, want.k_carved);
  expect_codes(got.k_tail, want.k_tail);
  expect_close(got.k_tail_scale, want.k_tail_scale);
  expect_close(got.k_means, want.k_means);
  if (c.beyond >= 0) {
    EXPECT_EQ(again, (std::vector<int32_t>{0, 1}));
    EXPECT_GT(got.v_scale[c.head_dim + 2], 2.f);  // 1000 / 448
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, PrepareFloat8Emulated,
                         ::testing::Values(Case{"Whole", 0, 256, 128, 64}, Case{"Ragged", 77, 201, 128, 32},
                                           Case{"ManyCells", 0, 2200, 128, 32}, Case{"OneToken", 128, 1, 128, 64},
                                           Case{"NoTail", 5, 203, 128, 0}, Case{"LongContext", 600, 100, 128, 64},
                                           Case{"BeyondInContext", 77, 201, 128, 32, 0.f, 1.f, 40},
                                           Case{"BeyondInVideo", 77, 201, 128, 32, 0.f, 1.f, 80}),
                         [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(Cases, PrepareEmulated,
                         ::testing::Values(Case{"Whole", 0, 256, 128, 64}, Case{"Ragged", 77, 201, 128, 32},
                                           Case{"OneToken", 128, 1, 128, 64}, Case{"NoTail", 5, 203, 64, 0},
                                           Case{"HeadDim16", 3, 150, 16, 32}, Case{"HeadDim96", 0, 150, 96, 128},
                                           Case{"Constant", 9, 200, 128, 64, 20.f},
                                           Case{"Outliers", 9, 200, 64, 64, 0.f, 12.f}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::testing
