// Carved copies and means, for any tier (include after simd.h and vector_math.h).
//
// A work item is a run of 128 video tokens of one head, or all of its context rows. Every row is read once: copied to
// its carved place and added to the running sums of its cell, 64 bytes or more of channels at a time. The heads of a
// run follow one another, since where tokens are major their rows lie in the same pages.
#pragma once

#include <initializer_list>
#include <limits>

#include "kernels/params.h"

namespace jenga::cpu {
namespace {

constexpr int64_t kRunTokens = 128;  // every block and cell size divides it
constexpr int64_t kPieceTokens = 8;  // the smallest cell: no mean depends on which others are wanted
constexpr int64_t kAhead = 12;       // rows fetched before they are needed: curve order defeats the hardware's guess

// Carved rows are read again only when all are written: where they are made of whole vectors they go past the caches,
// which saves reading the memory they go to.
inline void carve_row(void* carved, const void* row, int64_t bytes) {
  if ((reinterpret_cast<uintptr_t>(carved) | bytes) % sizeof(Vec) != 0) {
    std::memcpy(carved, row, bytes);
    return;
  }
  const auto* from = static_cast<const float*>(row);
  auto* to = static_cast<float*>(carved);
  for (int64_t i = 0; i < bytes / 4; i += kWidth) stream(to + i, load(from + i));
}

struct RunSource {
  const void* x;  // head's first element
  int64_t token_stride, head_dim;
  const int32_t* rows;  // raster rows of the run
  int64_t count;
  void* carved;  // first carved row of the run, or null
};

// One cell: sums[head_dim] = sum of its rows, which are copied on the way.
template <DataType kType>
inline void sum_rows(const RunSource& s, int64_t first, int64_t last, float* sums) {
  constexpr int kVecs = 4;
  for (int64_t d = 0; d < s.head_dim; ++d) sums[d] = 0;
  for (int64_t i = first; i < last; ++i) {
    const void* row = at(s.x, s.rows[i] * s.token_stride, kType);
    if (i + kAhead < s.count) {
      const char* ahead = static_cast<const char*>(at(s.x, s.rows[i + kAhead] * s.token_stride, kType));
      for (int64_t byte = 0; byte < s.head_dim * element_size(kType); byte += 64) __builtin_prefetch(ahead + byte);
    }
    if (s.carved) carve_row(at(s.carved, i * s.head_dim, kType), row, s.head_dim * element_size(kType));
    int64_t d = 0;
    for (; d + kVecs * kWidth <= s.head_dim; d += kVecs * kWidth) {
#pragma GCC unroll 4
      for (int c = 0; c < kVecs; ++c) {
        store(sums + d + c * kWidth, load(sums + d + c * kWidth) + load_as<kType>(row, d + c * kWidth));
      }
    }
    for (; d + kWidth <= s.head_dim; d += kWidth) store(sums + d, load(sums + d) + load_as<kType>(row, d));
    for (; d < s.head_dim; ++d) sums[d] += load_element(row, d, kType);
  }
}

// Means of one size over a run, gathered from sums of smaller pieces in their order.
struct RunCells {
  int64_t size;
  void* out;  // the run's first cell, or null: not wanted
  alignas(64) float sums[kMaxHeadDim];

  // sums of tokens first .. last - 1 of a run of `count`.
  template <DataType kType>
  void add(const float* piece, int64_t first, int64_t last, int64_t count, int64_t head_dim) {
    if (!out) return;
    const int64_t cell = first / size * size;
    for (int64_t d = 0; d < head_dim; ++d) sums[d] = first == cell ? piece[d] : sums[d] + piece[d];
    if (last != count && last != cell + size) return;
    const float share = 1.0f / static_cast<float>(last - cell);
    for (int64_t d = 0; d < head_dim; ++d) sums[d] *= share;
    store_row_as<kType>(at(out, cell / size * head_dim, kType), sums, head_dim);
  }
};

template <DataType kType>
void run_means(const RunSource& s, RunCells one, RunCells other) {
  alignas(64) float sums[kMaxHeadDim];
  for (int64_t first = 0; first < s.count; first += kPieceTokens) {
    const int64_t last = first + kPieceTokens < s.count ? first + kPieceTokens : s.count;
    sum_rows<kType>(s, first, last, sums);
    one.add<kType>(sums, first, last, s.count, s.head_dim);
    other.add<kType>(sums, first, last, s.count, s.head_dim);
  }
}

// context_bias: of this batch row, or null. A masked row is not read.
template <DataType kType>
void prepare_context(const PrepareBlocksParams& p, const void* x, int64_t token_stride, const float* context_bias,
                     void* carved) {
  const int64_t context_rows = round_up(p.num_context, kContextAlignment), row_bytes = p.head_dim * element_size(kType);
  for (int64_t c = 0; c < p.num_context; ++c) {
    void* const row = at(carved, c * p.head_dim, kType);
    if (context_bias && context_bias[c] == -std::numeric_limits<float>::infinity()) {
      std::memset(row, 0, row_bytes);
    } else {
      std::memcpy(row, at(x, p.token_index[c] * token_stride, kType), row_bytes);
    }
  }
  std::memset(at(carved, p.num_context * p.head_dim, kType), 0, (context_rows - p.num_context) * row_bytes);
}

template <DataType kType>
void prepare_run(const PrepareBlocksParams& p, int64_t head, int64_t run) {
  const int64_t b = head / p.heads, h = head % p.heads, first = run * kRunTokens;
  const int64_t context_rows = round_up(p.num_context, kContextAlignment);
  const int64_t carved_head = head * (context_rows + p.num_video) * p.head_dim;
  const int64_t count = p.num_video - first < kRunTokens ? p.num_video - first : kRunTokens;
  auto source = [&](const Operand& x, void* carved) {
    return RunSource{at(x.data, b * x.strides.batch + h * x.strides.head, kType),
                     x.strides.token,
                     p.head_dim,
                     p.token_index + p.num_context + first,
                     count,
                     carved ? at(carved, carved_head + (context_rows + first) * p.head_dim, kType) : nullptr};
  };
  auto cells = [&](void* out, int64_t size) {
    const int64_t per_head = out ? ceil_div(p.num_video, size) : 0;
    return RunCells{size, out ? at(out, (head * per_head + first / size) * p.head_dim, kType) : nullptr, {}};
  };
  if (p.q_means) {
    run_means<kType>(source(p.q, nullptr), cells(p.q_means, p.q_cell_size), cells(nullptr, 1));
  }
  if (p.k_carved || p.k_means || p.k_tail) {
    run_means<kType>(source(p.k, p.k_carved), cells(p.k_means, p.k_cell_size), cells(p.k_tail, p.tail_block_size));
  }
  if (p.v_carved || p.v_tail) {
    run_means<kType>(source(p.v, p.v_carved), cells(nullptr, 1), cells(p.v_tail, p.tail_block_size));
  }
}

template <DataType kType>
void prepare_range(int64_t begin, int64_t end, void* context) {
  const auto& p = *static_cast<const PrepareBlocksParams*>(context);
  const int64_t carved_rows = round_up(p.num_context, kContextAlignment) + p.num_video;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t head = i % (p.batch * p.heads), run = i / (p.batch * p.heads) - 1;
    if (run >= 0) {
      prepare_run<kType>(p, head, run);
      continue;
    }
    const int64_t b = head / p.heads, h = head % p.heads, carved = head * carved_rows * p.head_dim;
    const float* bias = p.context_bias ? p.context_bias + b * (carved_rows - p.num_video) : nullptr;
    auto carve = [&](const Operand& x, void* out) {
      const Strides& s = x.strides;
      const void* const rows = at(x.data, b * s.batch + h * s.head, kType);
      if (out) prepare_context<kType>(p, rows, s.token, bias, at(out, carved, kType));
    };
    carve(p.k, p.k_carved);
    carve(p.v, p.v_carved);
  }
  fence();
}

void prepare_blocks(const PrepareBlocksParams& params, ParallelFor parallel_for) {
  PrepareBlocksParams p = params;
  const int64_t items = p.batch * p.heads * (ceil_div(p.num_video, kRunTokens) + 1);
  switch (p.q.dtype) {
    case DataType::kFloat32:
      return parallel_for(0, items, 1, prepare_range<DataType::kFloat32>, &p);
    case DataType::kBFloat16:
      return parallel_for(0, items, 1, prepare_range<DataType::kBFloat16>, &p);
    case DataType::kFloat16:
      return parallel_for(0, items, 1, prepare_range<DataType::kFloat16>, &p);
    default:  // no tier is given 8 bits
      return;
  }
}

}  // namespace
}  // namespace jenga::cpu
