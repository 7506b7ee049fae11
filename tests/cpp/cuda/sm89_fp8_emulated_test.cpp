// The attention kernel with int8 keys and e4m3 values out of mma.sync on the host, thread by thread (emulated/):
// queries to codes, copies of blocks of values, fragments, weights, sums by unit, scales, lse and the stores. Needs no
// GPU. What it cannot see: waits that are missing, and time.
#include <gtest/gtest.h>

#define JENGA_EMULATES_DYNAMIC_SHARED
#include "tests/cpp/cuda/emulated/kernels/cuda/sm89/mma.h"
// The stand-ins come first: the headers below are written in CUDA's terms.
#include "kernels/cuda/sm89/fp8_attention.h"
#include "kernels/cuda/sm89/fp8_attention_kernel.h"
#include "tests/cpp/cuda/emulated/run_tiles.h"
#include "tests/cpp/cuda/fp8_case.h"

namespace jenga::testing {
namespace {

using namespace cuda::sm89;

template <class T>
void run(const BlockSparseAttentionParams& params, int slots) {
  emulated::run_tiles<Fp8Shape::Queries>(params, slots, attend_fp8<T>);
}

// 127 is no number in e4m3. The largest sum of a row has the largest weight, its offset left on, whatever a sum is
// worth.
TEST(WeightCodes, OfSumsWithTheirOffsetAreNumbers) {
  constexpr float kZero = 12582912.f;
  uint64_t state = 1;
  const auto random = [&] { return static_cast<float>((state = state * 6364136223846793005u + 1) >> 40) / (1 << 24); };
  for (int i = 0; i < 100000; ++i) {
    const float unit = std::exp2(-20.f + 20.f * random()), sum = std::round((2.f * random() - 1.f) * 16129.f);
    const cuda::WeightCodes codes(unit, sum * unit, kZero);
    const float code = std::fmaf(kZero + sum, codes.step, codes.shift) / cuda::kCodeUnit;
    ASSERT_LT(code, 126.5f) << "unit " << unit << ", sum " << sum;
    ASSERT_GT(code, 125.9f - 2 * cuda::kCodesPerPower * unit) << "unit " << unit << ", sum " << sum;
  }
}

class Sm89Fp8Emulated : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(Sm89Fp8Emulated, IsAsNearToFp64AsTheReferenceWithEveryNumberOfSlots) {
  const Fp8Case host(GetParam());
  const BlockSparseAttentionParams params = host.params(OnHost());
  ASSERT_TRUE(supports_fp8_attention(params));
  Outputs outputs[2];
  for (const int slots : {2, Fp8Shape::kMostSlots}) {
    SCOPED_TRACE(slots);
    Outputs& got = outputs[slots - 2];
    got = unwritten(params);
    const BlockSparseAttentionParams p = writing(params, got);
    p.q.dtype == DataType::kFloat16 ? run<__half>(p, slots) : run<__nv_bfloat16>(p, slots);
    expect_as_near_as_the_reference(host, got, kUnitKeys);
  }
  EXPECT_EQ(outputs[0].out, outputs[1].out);
}

INSTANTIATE_TEST_SUITE_P(Cases, Sm89Fp8Emulated, ::testing::ValuesIn(emulated_fp8_cases()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::testing
