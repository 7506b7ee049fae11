// Nothing throws inside parallel_for: with no memory to be had there, the caller gets std::bad_alloc after it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "kernels/cpu/dispatch.h"
#include "tests/cpp/kernels/cases.h"

namespace {
thread_local bool starved = false;  // true: this thread gets no memory
}

// Stand in front of those of the C and C++ libraries in this executable.
extern "C" void* aligned_alloc(size_t alignment, size_t size) {
  void* data = nullptr;
  return starved || posix_memalign(&data, alignment, size) != 0 ? nullptr : data;
}
void* operator new(size_t size) {
  void* const data = starved ? nullptr : std::malloc(size);
  if (!data) throw std::bad_alloc();
  return data;
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, size_t) noexcept { std::free(data); }

namespace jenga::test {
namespace {

int thrown_inside = 0;

void run_starved(int64_t begin, int64_t end, ParallelBody body, void* context) {
  starved = true;
  try {
    body(begin, end, context);
  } catch (...) {
    ++thrown_inside;
  }
  starved = false;
}

// No thread gets memory.
void starved_for(int64_t begin, int64_t end, int64_t, ParallelBody body, void* context) {
  if (begin < end) run_starved(begin, end, body, context);
}
// The first of two threads gets none.
void half_starved_for(int64_t begin, int64_t end, int64_t, ParallelBody body, void* context) {
  const int64_t middle = begin + (end - begin) / 2;
  if (begin < middle) run_starved(begin, middle, body, context);
  if (middle < end) body(middle, end, context);
}

const Case kCase{.name = "Starved", .context_before = 9, .video = 300, .tail_block_size = 64};

struct Selected {
  std::vector<int32_t> index, count;
};

template <typename Run>
void expect_bad_alloc_outside(Run run) {
  for (const cpu::KernelTable* table : cpu::kernel_tables()) {
    if (!table->supported()) continue;
    SCOPED_TRACE(table->isa);
    thrown_inside = 0;
    EXPECT_THROW(run(*table), std::bad_alloc);
    EXPECT_EQ(thrown_inside, 0);
  }
}

// The means of tail cells serve as those of query and key cells.
SelectBlocksParams select_params(const Inputs& inputs, Selected& out) {
  const Case& c = inputs.c;
  SelectBlocksParams p{.dtype = inputs.type,
                       .q_means = inputs.k_tail.data(),
                       .k_means = inputs.k_tail.data(),
                       .adjacency = nullptr,
                       .kv_block_index = nullptr,
                       .kv_block_count = nullptr,
                       .batch = c.batch,
                       .heads = c.heads,
                       .head_dim = c.head_dim,
                       .num_video = c.video,
                       .max_kv = ceil_div(c.video, c.tail_block_size),
                       .q_block_size = c.tail_block_size * 2,
                       .kv_block_size = c.tail_block_size,
                       .q_cells = 2,
                       .k_cells = 1,
                       .min_blocks = 2,
                       .top_p = 0.5f,
                       .softmax_scale = 0.1f};
  out.index.assign(c.batch * c.heads * p.num_q_blocks() * p.max_kv, -2);
  out.count.assign(c.batch * c.heads * p.num_q_blocks(), -2);
  p.kv_block_index = out.index.data();
  p.kv_block_count = out.count.data();
  return p;
}

TEST(CpuAllocation, AttentionThrowsOutsideOfParallelFor) {
  Inputs inputs(kCase, DataType::kBFloat16);
  Tensor out = inputs.fresh_out();
  std::vector<float> lse = inputs.fresh_lse();
  expect_bad_alloc_outside([&](const cpu::KernelTable& table) {
    table.block_sparse_attention(inputs.attention_params(out, lse), starved_for);
  });
}

TEST(CpuAllocation, SelectionThrowsOutsideOfParallelFor) {
  const Inputs inputs(kCase, DataType::kBFloat16);
  Selected selected;
  expect_bad_alloc_outside(
      [&](const cpu::KernelTable& table) { table.select_blocks(select_params(inputs, selected), starved_for); });
}

TEST(CpuAllocation, OneThreadWithMemoryDoesTheWholeWork) {
  Inputs inputs(kCase, DataType::kBFloat16);
  for (const cpu::KernelTable* table : cpu::kernel_tables()) {
    if (!table->supported()) continue;
    SCOPED_TRACE(table->isa);
    thrown_inside = 0;
    Selected want, got;
    table->select_blocks(select_params(inputs, want), serial_for);
    table->select_blocks(select_params(inputs, got), half_starved_for);
    EXPECT_EQ(got.index, want.index);
    EXPECT_EQ(got.count, want.count);
    Tensor out = inputs.fresh_out(), starved_out = inputs.fresh_out();
    std::vector<float> lse = inputs.fresh_lse(), starved_lse = inputs.fresh_lse();
    table->block_sparse_attention(inputs.attention_params(out, lse), serial_for);
    table->block_sparse_attention(inputs.attention_params(starved_out, starved_lse), half_starved_for);
    EXPECT_EQ(starved_out.bytes, out.bytes);
    EXPECT_EQ(starved_lse, lse);
    EXPECT_EQ(thrown_inside, 0);
  }
}

}  // namespace
}  // namespace jenga::test
