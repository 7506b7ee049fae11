// The walk over the units of a tile, run on the host: every key that the contract names is met once, with its bias, and
// no other. Needs no GPU.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <random>

// What the device code takes from CUDA; its attributes mean nothing to this compiler.
using std::min;
static uint32_t atomicOr(uint32_t* word, uint32_t bits) {
  const uint32_t before = *word;
  *word |= bits;
  return before;
}

#include "kernels/cuda/sm80/unit_reader.h"

namespace jenga::testing {
namespace {

using cuda::TileWalk;
constexpr float kMasked = -std::numeric_limits<float>::infinity();

struct WalkCase {
  int64_t context, video, kv_block_size, tail_block_size;
  bool masked = false;
  bool tail_bias = false;
};

class TileWalkTest : public ::testing::TestWithParam<WalkCase> {
 protected:
  static constexpr int64_t kBatch = 2, kHeads = 2;

  void SetUp() override {
    const WalkCase& c = GetParam();
    std::mt19937 random(3);
    const int64_t nq = ceil_div(c.video, 128), lists = kBatch * kHeads * nq;
    nkv_ = ceil_div(c.video, c.kv_block_size);
    padded_ = round_up(c.context, kContextAlignment);
    index_.assign(lists * nkv_, -1);
    for (int64_t list = 0; list < lists; ++list) {
      int32_t count = 0;
      for (int32_t block = 0; block < nkv_; ++block) {
        if (random() % 4 < static_cast<unsigned>(list) % 5) index_[list * nkv_ + count++] = block;
      }
      count_.push_back(count);
    }
    for (int64_t i = 0; i < lists; ++i) order_.push_back(static_cast<int32_t>(nq - 1 - i % nq));
    bias_.assign(kBatch * padded_, kMasked);
    for (int64_t i = 0; i < kBatch * padded_; ++i) {
      if (i % padded_ < c.context && !(c.masked && i % 3 == 0)) bias_[i] = 0.25f * static_cast<float>(i % 5);
    }
    params_.batch = kBatch;
    params_.heads = kHeads;
    params_.head_dim = 64;
    params_.num_context = c.context;
    params_.num_video = c.video;
    params_.max_kv = nkv_;
    params_.kv_block_size = c.kv_block_size;
    params_.tail_block_size = c.tail_block_size;
    params_.k_tail.data = c.tail_block_size ? this : nullptr;
    params_.kv_block_index = index_.data();
    params_.kv_block_count = count_.data();
    params_.context_bias = c.masked ? bias_.data() : nullptr;
    params_.softmax_scale = 0.5f;
    num_cells_ = c.tail_block_size ? ceil_div(c.video, c.tail_block_size) : 0;
    for (int64_t i = 0; i < kBatch * kHeads * num_cells_; ++i) tail_bias_.push_back(0.1f * static_cast<float>(i % 77));
    params_.tail_bias = c.tail_bias ? tail_bias_.data() : nullptr;
    walk_ = cuda::make_tile_walk(params_, order_.data());
  }

  std::vector<uint32_t> kept(const cuda::QueryBlock& block) const {
    std::vector<uint32_t> bits(nkv_ / 32 + 1, 0xFFFFFFFFu);
    if (!block.is_context) cuda::mark_kept(walk_, block, bits.data(), 0, 1, [] {});
    return bits;
  }

  // Bias by key: rows of the carved keys, then tail cells from kFirstCell on.
  static constexpr int kFirstCell = 1 << 24;
  std::map<int, float> wanted(const cuda::QueryBlock& block) const {
    const WalkCase& c = GetParam();
    std::map<int, float> keys;
    for (int row = 0; row < c.context; ++row) {
      const float bias = c.masked ? bias_[block.batch * padded_ + row] : 0.f;
      if (bias > kMasked) keys[row] = block.is_context ? 0.f : bias / params_.softmax_scale;
    }
    for (int row = 0; row < c.video; ++row) {
      const auto* list = block.list;
      const int of = static_cast<int>(row / c.kv_block_size);
      if (block.is_context || std::find(list, list + block.count, of) != list + block.count) {
        keys[static_cast<int>(padded_) + row] = 0.f;
      } else if (c.tail_block_size && row % c.tail_block_size == 0) {
        const int64_t cell = row / c.tail_block_size, head = block.batch * kHeads + block.head;
        const auto tokens = static_cast<float>(std::min(c.tail_block_size, c.video - row));
        const float bias = c.tail_bias ? tail_bias_[head * num_cells_ + cell] : std::log(tokens);
        keys[kFirstCell + static_cast<int>(cell)] = bias / params_.softmax_scale;
      }
    }
    return keys;
  }

  // Every ticket once: blocks in their order, each of the context and the video of every head.
  std::vector<cuda::QueryBlock> all_blocks() const {
    std::vector<cuda::QueryBlock> blocks;
    for (int ticket = 0; ticket < cuda::num_tickets(params_); ++ticket) blocks.push_back(cuda::locate(walk_, ticket));
    return blocks;
  }

  // Walked in units of so many keys.
  template <int kUnitKeys>
  void expect_every_key_once() const;

  BlockSparseAttentionParams params_{};
  TileWalk walk_{};
  int64_t nkv_ = 0, padded_ = 0, num_cells_ = 0;
  std::vector<int32_t> index_, count_, order_;
  std::vector<float> bias_, tail_bias_;
};

TEST_P(TileWalkTest, TicketsNameEveryQueryBlockOnce) {
  for (int32_t first : {0, static_cast<int32_t>(walk_.num_q_blocks)}) {
    walk_.first_context_ticket = first;
    std::map<std::array<int, 4>, int> seen;
    for (const cuda::QueryBlock& block : all_blocks()) {
      ++seen[{block.batch, block.head, block.is_context, block.first_row}];
      const int64_t row = (block.batch * kHeads + block.head) * walk_.num_q_blocks + block.first_row / 128;
      EXPECT_EQ(block.count, block.is_context ? nkv_ : count_[row]);
      EXPECT_EQ(block.list, block.is_context ? nullptr : index_.data() + row * nkv_);
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), cuda::num_tickets(params_));
  }
}

template <int kUnitKeys>
void TileWalkTest::expect_every_key_once() const {
  using namespace cuda::sm80;
  for (const cuda::QueryBlock& block : all_blocks()) {
    const std::vector<uint32_t> bits = kept(block);
    int tail_units = 0;
    for (int unit = 0; !block.is_context && unit * kUnitKeys < walk_.num_tail_cells; ++unit)
      tail_units += cuda::has_dropped_cell<kUnitKeys>(walk_, bits.data(), unit);
    const TilePlan plan{block, block.first_row, cuda::count_units<kUnitKeys>(walk_, block, tail_units)};
    UnitReader<kUnitKeys> reader;
    reader.next_block(plan);
    std::map<int, float> met;
    for (int unit = 0; unit < plan.units.all(); ++unit) {
      reader.advance(walk_, plan, bits.data());
      for (int key = 0; key < kUnitKeys; ++key) {
        const float bias = unit < plan.units.biased() ? reader.bias(walk_, plan, bits.data(), key) : 0.f;
        if (bias == kMasked) continue;
        ASSERT_LT(key, reader.num_valid);
        ASSERT_TRUE(met.emplace((reader.is_tail ? kFirstCell : 0) + reader.first + key, bias).second);
      }
    }
    const std::map<int, float> keys = wanted(block);
    ASSERT_EQ(met.size(), keys.size());
    for (const auto& [key, bias] : keys) {
      ASSERT_TRUE(met.count(key)) << key;
      EXPECT_NEAR(met[key], bias, 1e-5) << key;
    }
  }
}

TEST_P(TileWalkTest, UnitsOfSm80MeetEveryKeyOnce) { expect_every_key_once<64>(); }
TEST_P(TileWalkTest, ShorterUnitsOfSm86MeetEveryKeyOnce) {
  expect_every_key_once<32>();
  expect_every_key_once<16>();
}

// A unit of 128 keys, as on sm_90a: all video rows in whole and partial units, and the tail units with a dropped cell.
TEST_P(TileWalkTest, CountsOfLongerUnits) {
  constexpr int kUnitKeys = 128;
  for (const cuda::QueryBlock& block : all_blocks()) {
    const cuda::UnitCounts units = cuda::count_units<kUnitKeys>(walk_, block, 0);
    std::map<int, bool> tail_units;
    int64_t rows = 0;
    for (const auto& [key, bias] : wanted(block)) {
      if (key >= kFirstCell) tail_units[(key - kFirstCell) / kUnitKeys] = true;
      rows += key >= padded_ && key < kFirstCell;
    }
    EXPECT_EQ(units.whole, rows / kUnitKeys);
    EXPECT_EQ(units.partial, rows % kUnitKeys != 0);
    EXPECT_EQ(units.context, ceil_div(GetParam().context, kUnitKeys));
    const std::vector<uint32_t> bits = kept(block);
    for (int unit = 0; !block.is_context && unit * kUnitKeys < walk_.num_tail_cells; ++unit)
      EXPECT_EQ(cuda::has_dropped_cell<kUnitKeys>(walk_, bits.data(), unit), tail_units.count(unit) == 1) << unit;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, TileWalkTest,
                         ::testing::Values(WalkCase{0, 512, 64, 0}, WalkCase{77, 585, 64, 64},
                                           WalkCase{200, 585, 64, 32, true}, WalkCase{5, 585, 128, 128},
                                           WalkCase{128, 600, 128, 64, true}, WalkCase{300, 5, 128, 32},
                                           WalkCase{0, 1, 64, 64}, WalkCase{33, 9000, 64, 64},
                                           WalkCase{33, 9000, 64, 64, false, true}, WalkCase{33, 9050, 64, 32},
                                           WalkCase{0, 9001, 128, 32}));

}  // namespace
}  // namespace jenga::testing
