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
#include "tests/cpp/cuda/emulated/run_tiles.h"
#include "tests/cpp/cuda/int8_case.h"
#include "tests/cpp/cuda/outputs.h"

namespace jenga::testing {
namespace {

constexpr DataType kHalf = DataType::kFloat16;
enum class Keys { kSixteenBit, kShortUnits, kInt8 };  // kShortUnits: 16-bit too, tiles of sm_86

template <class T>
void run(Keys keys, const BlockSparseAttentionParams& params, int slots) {
  using namespace cuda::sm80;
  const auto in_16_bits = [&]<class Shape>(Shape) { emulated::run_tiles<Shape>(params, slots, attend<T, Shape>); };
  const int64_t dim = params.head_dim;
  if (keys == Keys::kInt8) {
    if (dim <= 64) return emulated::run_tiles<Int8Shape<64>::Queries>(params, slots, attend_int8<T, 64>);
    return emulated::run_tiles<Int8Shape<128>::Queries>(params, slots, attend_int8<T, 128>);
  }
  if (keys == Keys::kShortUnits) {
    if (dim <= 64) return in_16_bits(TileShape<64, 16>());
    if (dim <= 128) return in_16_bits(cuda::sm86::TileShape<128>());
    if (dim <= 192) return in_16_bits(cuda::sm86::TileShape<192>());
    return in_16_bits(cuda::sm86::TileShape<256>());
  }
  if (dim <= 64) return in_16_bits(TileShape<64>());
  in_16_bits(TileShape<128>());
}

using Emulated = std::tuple<AttentionCase, Keys>;
class Sm80Emulated : public ::testing::TestWithParam<Emulated> {};

TEST_P(Sm80Emulated, MatchesTheReferenceWithEveryNumberOfSlots) {
  const auto& [shape, keys] = GetParam();
  const Int8Case host(shape);
  const BlockSparseAttentionParams params =
      keys == Keys::kInt8 ? host.params(OnHost()) : host.HostCase::params(OnHost());
  const AttentionResult wanted = by_reference(params);
  const double allowed = 2 * relative_error(host.data.plain().out, host.data.exact().out) + 1e-3;
  for (const int slots : {2, keys == Keys::kInt8 ? 4 : 3}) {
    SCOPED_TRACE(slots);
    Outputs got = unwritten(params);
    const BlockSparseAttentionParams p = writing(params, got);
    shape.dtype == kHalf ? run<__half>(keys, p, slots) : run<__nv_bfloat16>(keys, p, slots);
    expect_near(shape.dtype, got, wanted, allowed, 5e-3);
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
    {.name = "TailBias", .num_video = 330, .tail_block_size = 32, .batch = 2, .tail_bias = true},
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
