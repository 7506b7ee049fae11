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
  std::vector<uint8_t> k_carved, v_carved, q_means, k_means, k_tail, v_tail;

  PrepareBlocksParams params(Inputs& inputs) {
    const Case& c = inputs.c;
    const int64_t heads = c.batch * c.heads, rows = round_up(c.context(), kContextAlignment) + c.video;
    const int64_t size = element_size(inputs.type);
    for (auto* x : {&k_carved, &v_carved}) x->assign(heads * rows * c.head_dim * size, 0xff);
    q_means.assign(heads * ceil_div(c.video, c.q_cell_size) * c.head_dim * size, 0xff);
    k_means.assign(heads * ceil_div(c.video, c.k_cell_size) * c.head_dim * size, 0xff);
    PrepareBlocksParams p = inputs.prepare_params();
    p.k_carved = k_carved.data();
    p.v_carved = v_carved.data();
    p.q_means = q_means.data();
    p.k_means = k_means.data();
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
void expect_close(const std::vector<uint8_t>& got, const std::vector<uint8_t>& want, DataType type) {
  for (int64_t i = 0; i < static_cast<int64_t>(want.size()) / element_size(type); ++i) {
    const double b = load_element(want.data(), i, type);
    ASSERT_NEAR(load_element(got.data(), i, type), b, 2 * epsilon(type) * std::abs(b) + 2e-7) << i;
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
    expect_close(got.q_means, want.q_means, type);
    expect_close(got.k_means, want.k_means, type);
    expect_close(got.k_tail, want.k_tail, type);
    expect_close(got.v_tail, want.v_tail, type);
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
    p.q_means = nullptr;
    table->prepare_blocks(p, serial_for);
    expect_close(got.k_means, want.k_means, type);
    EXPECT_TRUE(std::isnan(load_element(got.q_means.data(), 0, type)));
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
    PackResidualParams p{.dense = inputs.k.operand(),
                         .carved = inputs.v.operand(),
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
  int64_t num_video = 37 * 64, head_dim = 40, min_blocks = 7;
  float top_p = 0;
  bool adjacency = false;
  enum { kRandom, kAllEqual, kPairs } means = kRandom;
  int64_t q_cells = 1, k_cells = 1, kv_block_size = 64;
  DataType dtype = DataType::kFloat32;
};

void PrintTo(const SelectionCase& c, std::ostream* out) { *out << c.name; }

class CpuSelection : public testing::TestWithParam<SelectionCase> {};

TEST_P(CpuSelection, MatchesReference) {
  const SelectionCase& c = GetParam();
  constexpr int64_t kHeads = 3;
  SelectBlocksParams p{.dtype = c.dtype,
                       .q_means = nullptr,
                       .k_means = nullptr,
                       .adjacency = nullptr,
                       .kv_block_index = nullptr,
                       .kv_block_count = nullptr,
                       .batch = 2,
                       .heads = kHeads,
                       .head_dim = c.head_dim,
                       .num_video = c.num_video,
                       .max_kv = 0,
                       .q_block_size = 128,
                       .kv_block_size = c.kv_block_size,
                       .q_cells = c.q_cells,
                       .k_cells = c.k_cells,
                       .min_blocks = c.min_blocks,
                       .top_p = c.top_p,
                       .softmax_scale = 0.2f};
  const int64_t heads = p.batch * p.heads, num_kv = p.num_kv_blocks(), per_block = c.k_cells * c.head_dim;
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  const auto draw = [&](int64_t cells) {
    std::vector<float> values(heads * cells * c.head_dim);
    for (auto& x : values) x = normal(random);
    return values;
  };
  std::vector<float> q = draw(p.num_q_cells()), k = draw(p.num_k_cells());
  if (c.means == SelectionCase::kAllEqual) std::fill(q.begin(), q.end(), 0.0f);
  if (c.means == SelectionCase::kPairs) {  // every second block repeats the one before: ties everywhere
    for (int64_t block = 1; block < heads * num_kv; block += 2) {
      std::copy_n(k.begin() + (block - 1) * per_block, per_block, k.begin() + block * per_block);
    }
  }
  const auto stored = [&](const std::vector<float>& values) {
    std::vector<uint8_t> bytes(values.size() * element_size(c.dtype));
    for (size_t i = 0; i < values.size(); ++i) store_element(bytes.data(), static_cast<int64_t>(i), c.dtype, values[i]);
    return bytes;
  };
  const std::vector<uint8_t> q_means = stored(q), k_means = stored(k);
  std::vector<uint8_t> adjacency(p.num_q_blocks() * num_kv);
  for (auto& x : adjacency) x = random() % 5 == 0;
  p.max_kv = c.top_p > 0 || c.adjacency ? num_kv : std::min(c.min_blocks, num_kv);
  const int64_t lists = heads * p.num_q_blocks();
  std::vector<int32_t> index(lists * p.max_kv, -7), count(lists, -7);
  p.q_means = q_means.data();
  p.k_means = k_means.data();
  p.adjacency = c.adjacency ? adjacency.data() : nullptr;
  p.kv_block_index = index.data();
  p.kv_block_count = count.data();
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

using Selection = SelectionCase;

INSTANTIATE_TEST_SUITE_P(
    Cases, CpuSelection,
    testing::Values(
        Selection{.name = "Floor"}, Selection{.name = "One", .num_video = 64, .min_blocks = 1},
        Selection{.name = "FloorBeyondAll", .min_blocks = 99},
        Selection{.name = "Mass", .min_blocks = 1, .top_p = 0.5f},
        Selection{.name = "MassBelowFloor", .min_blocks = 20, .top_p = 0.1f},
        Selection{.name = "WholeMass", .min_blocks = 1, .top_p = 1.0f},
        Selection{.name = "Adjacency", .adjacency = true},
        Selection{.name = "AdjacencyAndMass", .min_blocks = 2, .top_p = 0.7f, .adjacency = true},
        Selection{.name = "AllEqual", .means = Selection::kAllEqual},
        Selection{.name = "AllEqualHalfTheMass",
                  .num_video = 2048,
                  .min_blocks = 1,
                  .top_p = 0.5f,
                  .means = Selection::kAllEqual},
        Selection{.name = "Pairs", .num_video = 36 * 64, .means = Selection::kPairs},
        Selection{.name = "PairsByMass",
                  .num_video = 36 * 64,
                  .min_blocks = 1,
                  .top_p = 0.6f,
                  .means = Selection::kPairs,
                  .k_cells = 4},
        Selection{.name = "ManyBlocks", .num_video = 600 * 64, .head_dim = 24, .min_blocks = 100, .top_p = 0.3f},
        Selection{.name = "Cells8x8", .q_cells = 8, .k_cells = 8},
        Selection{.name = "Cells8x8Ragged", .num_video = 1003, .min_blocks = 3, .q_cells = 8, .k_cells = 8},
        Selection{.name = "Cells4x2Ragged", .num_video = 2291, .q_cells = 4, .k_cells = 2, .kv_block_size = 128},
        Selection{.name = "Cells1x8Mass", .num_video = 777, .min_blocks = 1, .top_p = 0.6f, .k_cells = 8},
        Selection{.name = "Cells8x1OneToken", .num_video = 129, .min_blocks = 2, .q_cells = 8},
        Selection{
            .name = "Cells2x4BFloat16", .head_dim = 128, .q_cells = 2, .k_cells = 4, .dtype = DataType::kBFloat16},
        Selection{.name = "Cells8x8Float16", .head_dim = 72, .q_cells = 8, .k_cells = 8, .dtype = DataType::kFloat16}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::test
