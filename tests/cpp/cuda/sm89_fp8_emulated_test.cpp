// The attention kernel with int8 keys and e4m3 values out of mma.sync on the host, thread by thread (emulated/):
// queries to codes, copies of blocks of values, fragments, weights, sums by unit, scales, lse and the stores. Needs no
// GPU. What it cannot see: waits that are missing, and time.
#include <gtest/gtest.h>

#define JENGA_EMULATES_DYNAMIC_SHARED
#include "tests/cpp/cuda/emulated/kernels/cuda/sm89/mma.h"
// The stand-ins come first: the headers below are written in CUDA's terms.
#include "kernels/cuda/sm89/fp8_attention.h"
#include "kernels/cuda/sm89/fp8_attention_kernel.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/fp8_case.h"

namespace jenga::testing {
namespace {

using namespace cuda::sm89;

template <class T>
void run(const BlockSparseAttentionParams& params, int slots) {
  std::vector<int32_t> order;
  for (int64_t head = 0; head < params.batch * params.heads; ++head) {
    for (int i = 0; i < static_cast<int>(ceil_div(params.num_video, 128)); ++i) order.push_back(i);
  }
  const cuda::sm80::AttentionArguments args{cuda::make_tile_walk(params, order.data()), slots};
  emulated::Block block(cuda::sm80::kThreads);
  const auto tiles = static_cast<int>(cuda::num_tickets(params)) * Fp8Shape::Queries::kTilesPerBlock;
  for (int tile = 0; tile < tiles; ++tile) {
    std::memset(cuda::sm80::dynamic_shared, 0xFF, sizeof cuda::sm80::dynamic_shared);
    block.run(tile, [&] { attend_fp8<T>(args); });
  }
}

class Sm89Fp8Emulated : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(Sm89Fp8Emulated, IsAsNearToFp64AsTheReferenceWithEveryNumberOfSlots) {
  const AttentionCase& shape = GetParam();
  const Fp8Case host(shape);
  const int64_t rows = shape.batch * shape.heads * shape.tokens(), elements = rows * shape.head_dim;
  BlockSparseAttentionParams params = host.blocks();
  ASSERT_TRUE(supports_fp8_attention(params));
  std::vector<uint16_t> outs[2];
  for (const int slots : {2, Fp8Shape::kMostSlots}) {
    SCOPED_TRACE(slots);
    std::vector<uint16_t>& got = outs[slots - 2];
    got.assign(elements, 0xFFFF);
    std::vector<float> got_lse(rows, NAN);
    params.out = {got.data(), params.q.strides, shape.dtype};
    params.lse = got_lse.data();
    shape.dtype == DataType::kFloat16 ? run<__half>(params, slots) : run<__nv_bfloat16>(params, slots);
    expect_as_near_as_the_reference(host, got, got_lse);
  }
  EXPECT_EQ(outs[0], outs[1]);
}

INSTANTIATE_TEST_SUITE_P(Cases, Sm89Fp8Emulated, ::testing::ValuesIn(emulated_fp8_cases()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::testing
