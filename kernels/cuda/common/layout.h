// What the CUDA kernels ask of the memory that they are given, and what every attention kernel asks of a call.
#pragma once

#include <cstdint>

#include "kernels/params.h"

namespace jenga::cuda {

// Kernels load 16 bytes at a time: eight 16-bit elements.
inline constexpr int kVectorElements = 8;
inline bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Every row of a 16-bit or 8-bit operand or output starts on 16 bytes.
template <class Rows>
bool has_aligned_rows(const Rows& rows, int64_t batch, int64_t heads) {
  const Strides& strides = rows.strides;
  const int64_t unit = rows.dtype == DataType::kInt8 || rows.dtype == DataType::kFloat8 ? 16 : 8;
  return is_aligned(rows.data) && strides.token % unit == 0 && (heads == 1 || strides.head % unit == 0) &&
         (batch == 1 || strides.batch % unit == 0);
}

// Lanes that share one row, one vector each: the next power of two, so that rows are reduced by exchanges.
constexpr int lanes_per_row(int64_t head_dim) {
  int lanes = 2;
  while (lanes * kVectorElements < head_dim) lanes *= 2;
  return lanes;
}

// Where lanes_per_row stands in 2, 4, 8, …
constexpr int index_of_lanes(int64_t head_dim) {
  int index = 0;
  while (2 << index < lanes_per_row(head_dim)) ++index;
  return index;
}

// What the two products of attention take: queries and keys, values.
struct Precision {
  DataType scores, outputs;
  friend constexpr bool operator==(Precision a, Precision b) { return a.scores == b.scores && a.outputs == b.outputs; }
};
inline Precision precision_of(const BlockSparseAttentionParams& p) { return {p.k_carved.dtype, p.v_carved.dtype}; }

inline int64_t num_tail_cells(const BlockSparseAttentionParams& p) {
  return p.k_tail.data == nullptr || p.tail_block_size == 0 ? 0 : ceil_div(p.num_video, p.tail_block_size);
}

// True for bf16 or fp16, 128-row query blocks, key blocks of 64 or 128, a positive scale, 16-byte aligned pointers and
// strides.
inline bool has_kernel_layout(const BlockSparseAttentionParams& p) {
  if (p.q.dtype != DataType::kBFloat16 && p.q.dtype != DataType::kFloat16) return false;
  if (p.q_block_size != kQueryBlockRows || !(p.softmax_scale > 0.f)) return false;
  if (p.kv_block_size != 64 && p.kv_block_size != 128) return false;
  const auto fits = [&](const auto& rows) { return has_aligned_rows(rows, p.batch, p.heads); };
  return fits(p.q) && fits(p.k_carved) && fits(p.v_carved) && fits(p.out) && is_aligned(p.k_tail.data) &&
         is_aligned(p.v_tail.data) && is_aligned(p.residual);
}

// True for int8 keys and e4m3 values with all their scales and centers, of the one head dim that has kernels.
inline bool has_fp8_layout(const BlockSparseAttentionParams& p) {
  return p.head_dim == kFloat8HeadDim && p.k_carved.scale != nullptr && p.v_carved.scale != nullptr &&
         p.k_center != nullptr && p.v_center != nullptr && (p.k_tail.data == nullptr || p.k_tail.scale != nullptr) &&
         has_kernel_layout(p);
}

}  // namespace jenga::cuda
