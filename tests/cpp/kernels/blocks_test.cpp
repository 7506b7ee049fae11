// prepare_blocks, select_blocks and pack_residual of every tier against the reference.
#include <gtest/gtest.h>

#include "kernels/cpu/dispatch.h"
#include "tests/cpp/kernels/cases.h"

namespace jenga::test {
namespace {

using CaseAndType = std::tuple<Case, DataType>;

std::string test_name(const testing::TestParamInfo<CaseAndType>& info) {
  return std::string(std::get<0>(info.param).name) + dtype_name(std::get<1>(info.param));
}

struct Prepared {
  std::vector<uint8_t> k_carved, v_carved, k_tail, v_tail;
  std::vector<float> q_pool, k_pool;

  PrepareBlocksParams params(Inputs& inputs) {
    const Case& c = inputs.c;
    const int64_t heads = c.batch * c.heads, rows = round_up(c.context(), kContextAlignment) + c.video;
    const int64_t size = element_size(inputs.type);
    for (auto* x : {&k_carved, &v_carved}) x->assign(heads * rows * c.head_dim * size, 0xff);
    q_pool.assign(heads * ceil_div(c.video, c.q_block_size) * c.head_dim, NAN);
    k_pool.assign(heads * ceil_div(c.video, c.kv_block_size) * c.head_dim, NAN);
    PrepareBlocksParams p = inputs.prepare_params();
    p.k_carved = k_carved.data();
    p.v_carved = v_carved.data();
    p.q_pool = q_pool.data();
    p.k_pool = k_pool.data();
    if (c.tail_block_size) {
      for (auto* x : {&k_tail, &v_tail}) {
        x->assign(heads * ceil_div(c.video, c.tail_block_size) * c.head_dim * size, 0xff);
      }
      p.k_tail = k_tail.data();
      p.v_tail = v_tail.data();
    }
    return p;
  }
};

// Means of standard normal values: a sum of 128 in fp32 is good to a few of its steps, then one rounding to the dtype.
void expect_close(const void* got, const void* want, DataType type, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double b = load_element(want, i, type);
    ASSERT_NEAR(load_element(got, i, type), b, 2 * epsilon(type) * std::abs(b) + 2e-7) << i;
  }
}

class CpuBlocks : public testing::TestWithParam<CaseAndType> {};

TEST_P(CpuBlocks, PrepareMatchesReference) {
  const auto& [c, type] = GetParam();
  Inputs inputs(c, type);
  Prepared want;
  reference::prepare_blocks(want.params(inputs));
  for (const cpu::KernelTable* table : cpu::kernel_tables()) {
    if (!table->supported()) continue;
    SCOPED_TRACE(table->isa);
    Prepared got;
    table->prepare_blocks(got.params(inputs), parallel_for);
    EXPECT_EQ(got.k_carved, want.k_carved);
    EXPECT_EQ(got.v_carved, want.v_carved);
    expect_close(got.q_pool.data(), want.q_pool.data(), DataType::kFloat32, static_cast<int64_t>(want.q_pool.size()));
    expect_close(got.k_pool.data(), want.k_pool.data(), DataType::kFloat32, static_cast<int64_t>(want.k_pool.size()));
    const int64_t cells = static_cast<int64_t>(want.k_tail.size()) / element_size(type);
    expect_close(got.k_tail.data(), want.k_tail.data(), type, cells);
    expect_close(got.v_tail.data(), want.v_tail.data(), type, cells);
  }
}

TEST_P(CpuBlocks, PrepareWritesOnlyWhatIsAskedFor) {
  const auto& [c, type] = GetParam();
  Inputs inputs(c, type);
  Prepared want;
  reference::prepare_blocks(want.params(inputs));
  for (const cpu::KernelTable* table : cpu::kernel_tables()) {
    if (!table->supported()) continue;
    SCOPED_TRACE(table->isa);
    Prepared got;
    PrepareBlocksParams p = got.params(inputs);
    p.k_carved = p.v_carved = p.k_tail = p.v_tail = nullptr;
    p.q_pool = nullptr;
    table->prepare_blocks(p, serial_for);
    expect_close(got.k_pool.data(), want.k_pool.data(), DataType::kFloat32, static_cast<int64_t>(want.k_pool.size()));
    EXPECT_TRUE(std::isnan(got.q_pool[0]));
  }
}

TEST_P(CpuBlocks, PackResidualMatchesReference) {
  const auto& [c, type] = GetParam();
  if (c.masked_context) GTEST_SKIP() << "holds NaN, which no code can stand for";
  Inputs inputs(c, type);
  // One row without any difference: its scale is 0.
  std::memcpy(static_cast<char*>(inputs.v.data()) + inputs.v.at(0, 0, 0) * element_size(type),
              static_cast<char*>(inputs.k.data()) + inputs.k.at(0, 0, 0) * element_size(type),
              c.head_dim * element_size(type));
  for (const int32_t bits : {8, 4}) {
    const int64_t rows = c.batch * c.tokens() * c.heads;
    std::vector<uint8_t> want(rows * c.head_dim * bits / 8, 0xee), got(want);
    std::vector<float> want_scale(rows, NAN), got_scale(want_scale);
    PackResidualParams p{.dtype = type,
                         .dense = inputs.k.data(),
                         .carved = inputs.v.data(),
                         .dense_strides = inputs.k.strides,
                         .carved_strides = inputs.v.strides,
                         .packed = want.data(),
                         .scale = want_scale.data(),
                         .batch = c.batch,
                         .heads = c.heads,
                         .tokens = c.tokens(),
                         .head_dim = c.head_dim,
                         .bits = bits};
    reference::pack_residual(p);
    EXPECT_EQ(want_scale[0], 0.0f);
    p.packed = got.data();
    p.scale = got_scale.data();
    for (const cpu::KernelTable* table : cpu::kernel_tables()) {
      if (!table->supported()) continue;
      SCOPED_TRACE(table->isa);
      std::fill(got.begin(), got.end(), 0xee);
      table->pack_residual(p, parallel_for);
      EXPECT_EQ(got, want);
      EXPECT_EQ(got_scale, want_scale);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, CpuBlocks,
                         testing::Combine(testing::ValuesIn(cases()),
                                          testing::Values(DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16)),
                         test_name);

struct SelectionCase {
  const char* name;
  int64_t num_q = 5, num_kv = 37, head_dim = 40, min_blocks = 7;
  float top_p = 0;
  bool adjacency = false;
  enum { kRandom, kAllEqual, kPairs } pools = kRandom;
};

void PrintTo(const SelectionCase& c, std::ostream* out) { *out << c.name; }

class CpuSelection : public testing::TestWithParam<SelectionCase> {};

TEST_P(CpuSelection, MatchesReference) {
  const SelectionCase& c = GetParam();
  constexpr int64_t kBatch = 2, kHeads = 3;
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::vector<float> q(kBatch * kHeads * c.num_q * c.head_dim), k(kBatch * kHeads * c.num_kv * c.head_dim);
  for (auto& x : q) x = normal(random);
  for (auto& x : k) x = normal(random);
  if (c.pools == SelectionCase::kAllEqual) std::fill(q.begin(), q.end(), 0.0f);
  if (c.pools == SelectionCase::kPairs) {  // every second block repeats the one before: ties everywhere
    for (int64_t row = 1; row < kBatch * kHeads * c.num_kv; row += 2) {
      std::copy_n(k.begin() + (row - 1) * c.head_dim, c.head_dim, k.begin() + row * c.head_dim);
    }
  }
  std::vector<uint8_t> adjacency(c.num_q * c.num_kv);
  for (auto& x : adjacency) x = random() % 5 == 0;
  const int64_t max_kv = c.top_p > 0 || c.adjacency ? c.num_kv : std::min(c.min_blocks, c.num_kv);
  const int64_t lists = kBatch * kHeads * c.num_q;
  std::vector<int32_t> index(lists * max_kv, -7), count(lists, -7);
  SelectBlocksParams p{.q_pool = q.data(),
                       .k_pool = k.data(),
                       .adjacency = c.adjacency ? adjacency.data() : nullptr,
                       .kv_block_index = index.data(),
                       .kv_block_count = count.data(),
                       .batch = kBatch,
                       .heads = kHeads,
                       .head_dim = c.head_dim,
                       .num_q_blocks = c.num_q,
                       .num_kv_blocks = c.num_kv,
                       .max_kv = max_kv,
                       .min_blocks = c.min_blocks,
                       .top_p = c.top_p,
                       .softmax_scale = 0.2f};
  reference::select_blocks(p);
  const std::vector<int32_t> want_index = index, want_count = count;
  for (const cpu::KernelTable* table : cpu::kernel_tables()) {
    if (!table->supported()) continue;
    SCOPED_TRACE(table->isa);
    std::fill(index.begin(), index.end(), -7);
    table->select_blocks(p, parallel_for);
    EXPECT_EQ(index, want_index);
    EXPECT_EQ(count, want_count);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, CpuSelection,
    testing::Values(
        SelectionCase{.name = "Floor"}, SelectionCase{.name = "One", .num_kv = 1, .min_blocks = 1},
        SelectionCase{.name = "FloorBeyondAll", .min_blocks = 99},
        SelectionCase{.name = "Mass", .min_blocks = 1, .top_p = 0.5f},
        SelectionCase{.name = "MassBelowFloor", .min_blocks = 20, .top_p = 0.1f},
        SelectionCase{.name = "WholeMass", .min_blocks = 1, .top_p = 1.0f},
        SelectionCase{.name = "Adjacency", .adjacency = true},
        SelectionCase{.name = "AdjacencyAndMass", .min_blocks = 2, .top_p = 0.7f, .adjacency = true},
        SelectionCase{.name = "AllEqual", .pools = SelectionCase::kAllEqual},
        SelectionCase{.name = "AllEqualHalfTheMass",
                      .num_kv = 32,
                      .min_blocks = 1,
                      .top_p = 0.5f,
                      .pools = SelectionCase::kAllEqual},
        SelectionCase{.name = "Pairs", .num_kv = 36, .pools = SelectionCase::kPairs},
        SelectionCase{
            .name = "PairsByMass", .num_kv = 36, .min_blocks = 1, .top_p = 0.6f, .pools = SelectionCase::kPairs},
        SelectionCase{
            .name = "ManyBlocks", .num_q = 3, .num_kv = 1200, .head_dim = 128, .min_blocks = 100, .top_p = 0.3f}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::test
