// The attention kernels of mma.sync, with the tiles of sm_80 and of sm_86, on the host, thread by thread (emulated/):
// which element of shared memory and of a fragment goes where, every unit of a tile, scales, bias, lse and the stores.
// Needs no GPU. What it cannot see: waits that are missing, and time.
#include <gtest/gtest.h>

#define JENGA_EMULATES_DYNAMIC_SHARED
#include "tests/cpp/cuda/emulated/kernels/cuda/sm80/mma.h"
// The stand-ins come first: the headers below are written in CUDA's terms.
#include "kernels/cuda/sm80/attention_kernel.h"
#include "kernels/cuda/sm80/int8_attention_kernel.h"
#include "kernels/cuda/sm86/shape.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/int8_case.h"

namespace jenga::testing {
namespace {

constexpr DataType kHalf = DataType::kFloat16;
enum class Keys { kSixteenBit, kShortUnits, kInt8 };  // kShortUnits: 16-bit too, tiles of sm_86

template <int kHeadDim, class Attend>
void run(const BlockSparseAttentionParams& params, int slots, Attend attend) {
  std::vector<int32_t> order;
  for (int64_t head = 0; head < params.batch * params.heads; ++head) {
    for (int i = 0; i < static_cast<int>(ceil_div(params.num_video, 128)); ++i) order.push_back(i);
  }
  const cuda::sm80::AttentionArguments args{cuda::make_tile_walk(params, order.data()), slots};
  emulated::Block block(cuda::sm80::kThreads);
  const auto tickets = static_cast<int>(cuda::num_tickets(params));
  for (int ticket = 0; ticket < tickets * cuda::sm80::TileShape<kHeadDim>::kTilesPerBlock; ++ticket) {
    std::memset(cuda::sm80::dynamic_shared, 0xFF, sizeof cuda::sm80::dynamic_shared);
    block.run(ticket, [&] { attend(args); });
  }
}

template <class T>
void run(Keys keys, const BlockSparseAttentionParams& params, int slots) {
  using namespace cuda;
  const int64_t dim = params.head_dim;
  if (keys == Keys::kInt8) {
    if (dim <= 64) return run<64>(params, slots, sm80::attend_int8<T, 64>);
    return run<128>(params, slots, sm80::attend_int8<T, 128>);
  }
  if (keys == Keys::kShortUnits) {
    if (dim <= 64) return run<64>(params, slots, sm80::attend<T, sm80::TileShape<64, 16>>);
    if (dim <= 128) return run<128>(params, slots, sm80::attend<T, sm86::TileShape<128>>);
    if (dim <= 192) return run<192>(params, slots, sm80::attend<T, sm86::TileShape<192>>);
    return run<256>(params, slots, sm80::attend<T, sm86::TileShape<256>>);
  }
  if (dim <= 64) return run<64>(params, slots, sm80::attend<T, sm80::TileShape<64>>);
  run<128>(params, slots, sm80::attend<T, sm80::TileShape<128>>);
}

// In memory of the case, with 16-bit keys where wanted, which must outlive what it returns.
BlockSparseAttentionParams params_of(const HostCase& host, Keys keys, const std::vector<uint16_t>& k,
                                     const std::vector<uint16_t>& k_tail) {
  BlockSparseAttentionParams p = host.params();
  if (keys == Keys::kInt8) return p;
  p.k_center = nullptr;
  p.k_carved = {k.data(), p.k_carved.strides, host.shape.dtype};
  if (p.k_tail.data != nullptr) p.k_tail = {k_tail.data(), p.k_tail.strides, host.shape.dtype};
  return p;
}

using Emulated = std::tuple<AttentionCase, Keys>;
class Sm80Emulated : public ::testing::TestWithParam<Emulated> {};

TEST_P(Sm80Emulated, MatchesTheReferenceWithEveryNumberOfSlots) {
  const auto& [shape, keys] = GetParam();
  const HostCase host(shape);
  const std::vector<uint16_t> k = encoded(shape.dtype, host.data.k_carved),
                              k_tail = encoded(shape.dtype, host.data.k_tail);
  BlockSparseAttentionParams params = params_of(host, keys, k, k_tail);
  const int64_t rows = shape.batch * shape.heads * shape.tokens(), elements = rows * shape.head_dim;
  std::vector<float> wanted(elements), wanted_lse(rows);
  params.out = {wanted.data(), params.q.strides, DataType::kFloat32};
  params.lse = wanted_lse.data();
  reference::block_sparse_attention(params);

  const double allowed = 2 * relative_error(host.data.plain().out, host.data.exact().out) + 1e-3;
  for (const int slots : {2, keys == Keys::kInt8 ? 4 : 3}) {
    SCOPED_TRACE(slots);
    std::vector<uint16_t> got(elements, 0xFFFF);
    std::vector<float> got_lse(rows, NAN);
    params.out = {got.data(), params.q.strides, shape.dtype};
    params.lse = got_lse.data();
    shape.dtype == kHalf ? run<__half>(keys, params, slots) : run<__nv_bfloat16>(keys, params, slots);
    std::vector<double> out;
    for (const uint16_t bits : got) out.push_back(decode(shape.dtype, bits));
    const double error = relative_error(out, {wanted.begin(), wanted.end()});
    EXPECT_TRUE(error <= allowed) << "relative error " << error;
    for (int64_t i = 0; i < rows; ++i) {
      if (std::isinf(wanted_lse[i])) {
        ASSERT_EQ(got_lse[i], wanted_lse[i]) << "row " << i;
      } else {
        ASSERT_NEAR(got_lse[i], wanted_lse[i], 5e-3) << "row " << i;
      }
    }
  }
}

constexpr AttentionCase kCases[] = {
    {.name = "Random64", .num_video = 300, .heads = 1},
    {.name = "EmptyButContext", .num_context = 20, .num_video = 140, .lists = Lists::kEmpty, .heads = 1},
    {.name = "MaskedContext", .num_context = 100, .num_video = 200, .kv_block_size = 128, .bias = Bias::kMasked},
    {.name = "Tail32Blocks128", .num_video = 330, .kv_block_size = 128, .tail_block_size = 32, .heads = 1},
    {.name = "TailDropped",
     .dtype = kHalf,
     .head_dim = 64,
     .num_video = 200,
     .tail_block_size = 64,
     .lists = Lists::kEmpty},
    {.name = "HeadDim48", .head_dim = 48, .num_context = 9, .num_video = 150, .tail_block_size = 64},
    {.name = "HeadDim96", .head_dim = 96, .num_video = 150, .residual = ResidualType::kInt8, .heads = 1},
    {.name = "OneToken", .num_video = 1, .lists = Lists::kFull, .batch = 2},
};

// Head dims whose tile is another on sm_86.
constexpr AttentionCase kWideCases[] = {
    {.name = "HeadDim192",
     .head_dim = 192,
     .num_context = 9,
     .num_video = 220,
     .kv_block_size = 128,
     .tail_block_size = 32,
     .heads = 1},
    {.name = "HeadDim256", .head_dim = 256, .num_context = 9, .num_video = 150, .tail_block_size = 32, .heads = 1},
};

std::string name_of(const ::testing::TestParamInfo<Emulated>& info) {
  const Keys keys = std::get<1>(info.param);
  return std::string(std::get<0>(info.param).name) + (keys == Keys::kInt8         ? "Int8"
                                                      : keys == Keys::kShortUnits ? "ShortUnits"
                                                                                  : "SixteenBit");
}
INSTANTIATE_TEST_SUITE_P(Cases, Sm80Emulated,
                         ::testing::Combine(::testing::ValuesIn(kCases),
                                            ::testing::Values(Keys::kSixteenBit, Keys::kShortUnits, Keys::kInt8)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(WideCases, Sm80Emulated,
                         ::testing::Combine(::testing::ValuesIn(kWideCases), ::testing::Values(Keys::kShortUnits)),
                         name_of);

}  // namespace
}  // namespace jenga::testing
