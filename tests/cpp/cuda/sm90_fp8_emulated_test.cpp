// The sm_90a attention kernel with int8 keys and e4m3 values on the host, thread by thread (emulated/): producer,
// planners and consumers, barriers, waits, swizzled panels, fragments, units of every kind, scales, lse and the stores.
// Needs no GPU. What it cannot see: fences that are missing, registers, and time.
#include <gtest/gtest.h>

// The stand-ins come first: the headers below are written in CUDA's terms.
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/copy_async.h"
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/tma.h"
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/wgmma_8bit.h"
//
#include "kernels/cuda/sm90/fp8_attention.h"
#include "kernels/cuda/sm90/fp8_consume.h"
#include "kernels/cuda/sm90/fp8_plan.h"
#include "kernels/cuda/sm90/fp8_produce.h"
#include "tests/cpp/cuda/emulated/tile_order.h"
#include "tests/cpp/cuda/fp8_case.h"

namespace jenga::testing {
namespace {

using namespace cuda::sm90;

// One thread block draws all tickets.
template <class T>
void run(const BlockSparseAttentionParams& params) {
  const std::vector<int32_t> order = emulated::tile_order(params);
  int32_t next_ticket = 0;
  Fp8Arguments args{};
  args.walk = cuda::make_tile_walk(params, order.data());
  args.next_ticket = &next_ticket;
  args.num_tickets = static_cast<int32_t>(cuda::num_tickets(params));
  const int64_t rows = args.walk.context_blocks * kContextAlignment + params.num_video;
  args.k_map = emulated_map(key_map(params, params.k_carved, rows));
  args.v_map = emulated_map(value_map(params, params.v_carved, rows));
  if (args.walk.num_tail_cells > 0) {
    args.k_tail_map = emulated_map(key_map(params, params.k_tail, args.walk.num_tail_cells));
    args.v_tail_map = emulated_map(value_map(params, params.v_tail, args.walk.num_tail_cells));
  }
  std::memset(shared_memory, 0xFF, sizeof shared_memory);
  auto& shared = *reinterpret_cast<Fp8Storage*>(shared_memory);
  emulated::Block block(kAttentionThreads);
  block.run(0, [&] {
    if (threadIdx.x == 0) shared.init_barriers();
    shared.write_ones();
    __syncthreads();
    const int group = threadIdx.x / 128;
    if (group > 0) return consume_fp8<T>(args, shared, group - 1, threadIdx.x % 128);
    if (threadIdx.x < 32) return produce_fp8(args, shared, threadIdx.x);
    plan_fp8_tiles<T>(args, shared, threadIdx.x - 32);
  });
}

void expect_as_near_as_the_reference(const Fp8Case& host) {
  const BlockSparseAttentionParams params = host.params(OnHost());
  ASSERT_TRUE(supports_fp8_attention(params));
  Outputs got = unwritten(params);
  const BlockSparseAttentionParams p = writing(params, got);
  p.q.dtype == DataType::kFloat16 ? run<__half>(p) : run<__nv_bfloat16>(p);
  expect_as_near_as_the_reference(host, got, kUnitKeys);
}

class Sm90Fp8Emulated : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(Sm90Fp8Emulated, IsAsNearToFp64AsTheReference) { expect_as_near_as_the_reference(Fp8Case(GetParam())); }

INSTANTIATE_TEST_SUITE_P(Cases, Sm90Fp8Emulated, ::testing::ValuesIn(emulated_fp8_cases()),
                         [](const auto& info) { return std::string(info.param.name); });

// Their scores are all alike, those of keys that are missing among them.
TEST(Sm90Fp8EmulatedZeros, KeysThatAreMissingStayOut) {
  const AttentionCase shape{.name = "Zeros", .num_context = 20, .num_video = 960, .tail_block_size = 64, .heads = 1};
  Fp8Case host(shape);
  std::fill_n(host.data.q.begin(), host.data.q.size() / 2, 0.f);
  std::fill_n(host.q.begin(), host.q.size() / 2, uint16_t{0});
  expect_as_near_as_the_reference(host);
}

// A missing key's sum is 2,000 powers of two above all others: weights would be none beside it.
TEST(Sm90Fp8MissingKeys, DoNotCountForTheLargest) {
  constexpr int kKey = 70;
  std::vector<int32_t> missing(kUnitKeys, 0);
  std::vector<uint32_t> present(kUnitKeys / 4, 0xFFFFFFFFu);
  missing[kKey] = kMissing;
  const int word = kKey / 16 * 4 + kKey % 8 / 2;
  present[word] = 0xFFFFFFFFu ^ 0xFFu << position_of_key(kKey % 16) % 4 * 8;
  const float key_scale[2] = {1.f, 1.f}, scale_log2[2] = {1e-3f, 1e-3f};
  emulated::Block block(32);
  block.run(0, [&] {
    const int lane = threadIdx.x;
    int32_t sums[64];
    std::fill_n(sums, 64, 990);
    if (lane % 4 == kKey % 8 / 2) sums[kKey / 8 * 4 + kKey % 2] = sums[kKey / 8 * 4 + kKey % 2 + 2] = 2'000'000;
    uint32_t weights[16];
    cuda::WeightBase base[2];
    float rescale[2];
    cuda::weigh_sums(weights, sums, key_scale, 3.f, false, {missing.data(), present.data()}, base, rescale, scale_log2,
                     lane);
    for (int n = 0; n < 16; ++n)
      EXPECT_EQ(weights[n], 0x7E7E7E7Eu & present[n / 2 * 4 + lane % 4]) << "lane " << lane << ", word " << n;
    EXPECT_NEAR(base[0].base, 3.99f, 1e-5f);
  });
}

// The way of a key from the accumulators of its score to the value that its weight meets.
TEST(ValueBlocks, WeightsMeetTheirKeysValuesWithoutMoving) {
  for (int thread = 0; thread < 4; ++thread) {
    for (int half = 0; half < 2; ++half) {
      for (int e = 0; e < 2; ++e) {
        const int column = 8 * half + 2 * thread + e;    // of a score, by the layout of accumulators
        const int position = 4 * thread + 2 * half + e;  // where pack_weights puts it, by the layout of operands
        EXPECT_EQ(position_of_key(column), position);
        EXPECT_EQ(key_at_position(position), column);
      }
    }
  }
}

}  // namespace
}  // namespace jenga::testing
