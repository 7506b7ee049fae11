// Rows times H on the host, lane by lane (emulated/): in the lanes of every width that kernels have, and by products,
// against the reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "tests/cpp/cuda/emulated/block.h"
// The stand-ins come first: the headers below are written in CUDA's terms.
#include "kernels/cuda/common/hadamard.h"
#include "kernels/cuda/sm90/row_products.h"
#include "kernels/params.h"
#include "kernels/reference/quantise.h"
#include "tests/cpp/cuda/attention_case.h"

namespace jenga::testing {
namespace {

using cuda::kVectorElements;
using Rows = std::vector<std::vector<float>>;

// Normal numbers that bf16 holds.
Rows make_rows(int number, int64_t channels) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  Rows rows(number, std::vector<float>(channels));
  for (auto& row : rows)
    for (float& x : row) x = bf16_to_float(float_to_bf16(normal(random)));
  return rows;
}

Rows rotated(Rows rows) {
  for (auto& row : rows) reference::hadamard(row);
  return rows;
}

// Rows side by side over the lanes of a warp, each lane with kChannels neighbouring channels.
template <int kLanes, int kChannels>
Rows by_lanes(Rows rows) {
  const auto channels = static_cast<int>(rows[0].size());
  emulated::Block(32).run(0, [&] {
    const int lane = threadIdx.x, channel = lane % kLanes * kChannels;
    float mine[1][kChannels] = {};
    float* const source = rows[lane / kLanes].data() + channel;
    if (channel < channels) std::copy_n(source, kChannels, mine[0]);
    cuda::hadamard<kLanes>(mine, static_cast<int>(rotation_size(channels)));
    if (channel < channels) std::copy_n(mine[0], kChannels, source);
  });
  return rows;
}

// Four lanes a row, each with runs of four channels.
template <int kParts>
Rows by_runs(Rows rows) {
  const auto channels = static_cast<int>(rows[0].size());
  emulated::Block(32).run(0, [&] {
    float mine[kParts][4] = {};
    const auto each = [&](auto use) {
      for (int part = 0; part < kParts; ++part) {
        const int channel = 16 * part + threadIdx.x % 4 * 4;
        if (channel < channels) use(mine[part], rows[threadIdx.x / 4].data() + channel);
      }
    };
    each([](float* run, const float* row) { std::copy_n(row, 4, run); });
    cuda::hadamard_in_turn<4>(mine, static_cast<int>(rotation_size(channels)));
    each([](const float* run, float* row) { std::copy_n(run, 4, row); });
  });
  return rows;
}

TEST(HadamardEmulated, IsTheReferencesBitForBit) {
  EXPECT_EQ((by_lanes<16, 8>(make_rows(2, 128))), rotated(make_rows(2, 128)));
  EXPECT_EQ((by_lanes<16, 8>(make_rows(2, 96))), rotated(make_rows(2, 96)));
  EXPECT_EQ((by_lanes<16, 8>(make_rows(2, 80))), rotated(make_rows(2, 80)));
  EXPECT_EQ((by_lanes<8, 8>(make_rows(4, 64))), rotated(make_rows(4, 64)));
  EXPECT_EQ((by_lanes<8, 8>(make_rows(4, 48))), rotated(make_rows(4, 48)));
  EXPECT_EQ((by_lanes<2, 8>(make_rows(16, 16))), rotated(make_rows(16, 16)));
  EXPECT_EQ((by_lanes<32, 4>(make_rows(1, 128))), rotated(make_rows(1, 128)));
  EXPECT_EQ(by_runs<8>(make_rows(8, 128)), rotated(make_rows(8, 128)));
  EXPECT_EQ(by_runs<8>(make_rows(8, 112)), rotated(make_rows(8, 112)));
  EXPECT_EQ(by_runs<4>(make_rows(8, 64)), rotated(make_rows(8, 64)));
}

// A row's vectors, as eight rows of a warp lie in its lanes.
struct LaneRow {
  uint4 vectors[cuda::sm90::kRowVectors];

  explicit LaneRow(const Rows& rows) {
    const int lane = threadIdx.x;
    for (int i = 0; i < cuda::sm90::kRowVectors; ++i) {
      float channels[kVectorElements];
      std::copy_n(&rows[lane / 4][32 * i + lane % 4 * 8], kVectorElements, channels);
      vectors[i] = cuda::pack_vector<__nv_bfloat16>(channels);
    }
  }
};

TEST(RowProductsEmulated, RotateEightRows) {
  const Rows rows = make_rows(8, 128), want = rotated(rows);
  Rows got = rows;
  emulated::Block(32).run(0, [&] {
    const LaneRow row(rows);
    float x[cuda::sm90::kRowVectors][kVectorElements];
    cuda::sm90::rotate_rows<__nv_bfloat16>(row.vectors, x);
    for (int i = 0; i < cuda::sm90::kRowVectors; ++i)
      std::copy_n(x[i], kVectorElements, &got[threadIdx.x / 4][32 * i + threadIdx.x % 4 * 8]);
  });
  for (size_t row = 0; row < rows.size(); ++row) {
    for (size_t c = 0; c < rows[row].size(); ++c) ASSERT_NEAR(got[row][c], want[row][c], 2e-5) << row << ", " << c;
  }
}

TEST(RowProductsEmulated, MultiplyByAVectorOfMoreBits) {
  const Rows rows = make_rows(8, 128);
  std::vector<float> center(128);
  std::mt19937 random(2);
  std::normal_distribution<float> normal(5.f, 10.f);
  for (float& x : center) x = normal(random);
  alignas(16) uint16_t parts[2][128];
  for (int c = 0; c < 128; ++c) {
    const uint32_t both = cuda::sm90::split<__nv_bfloat16>(center[c]);
    parts[0][c] = static_cast<uint16_t>(both);
    parts[1][c] = static_cast<uint16_t>(both >> 16);
  }
  emulated::Block(32).run(0, [&] {
    const LaneRow row(rows);
    const auto& values = rows[threadIdx.x / 4];
    const double want = std::inner_product(values.begin(), values.end(), center.begin(), 0.0);
    // 16 bits of every channel of the center, whose products sum to 120 or so.
    EXPECT_NEAR(cuda::sm90::multiply_rows<__nv_bfloat16>(row.vectors, parts[0]), want, 5e-3);
  });
}

}  // namespace
}  // namespace jenga::testing
