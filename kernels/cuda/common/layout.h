// What the CUDA kernels ask of the memory that they are given, and what every attention kernel asks of a call.
#pragma once

#include <cstdint>

#include "kernels/params.h"

namespace jenga::cuda {

inline constexpr int64_t kQueryBlockRows = 128;

// Kernels load 16 bytes at a time: eight 16-bit elements.
inline constexpr int kVectorElements = 8;
inline bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Every row of a 16-bit [B, H, rows, D] operand starts on 16 bytes.
inline bool is_aligned(const void* pointer, const Strides& strides, int64_t batch, int64_t heads) {
  return is_aligned(pointer) && strides.token % 8 == 0 && (heads == 1 || strides.head % 8 == 0) &&
         (batch == 1 || strides.batch % 8 == 0);
}

// Lanes that share one row, one vector each: the next power of two, so that rows are reduced by exchanges.
constexpr int lanes_per_row(int64_t head_dim) {
  int lanes = 2;
  while (lanes * kVectorElements < head_dim) lanes *= 2;
  return lanes;
}

// What the two products of attention take: queries and keys, values.
struct Precision {
  DataType scores, outputs;
  friend constexpr bool operator==(Precision a, Precision b) { return a.scores == b.scores && a.outputs == b.outputs; }
  friend constexpr bool operator!=(Precision a, Precision b) { return !(a == b); }
};
inline Precision precision_of(const BlockSparseAttentionParams& p) { return {p.dtype, p.dtype}; }

inline int64_t num_tail_cells(const BlockSparseAttentionParams& p) {
  return p.k_tail == nullptr || p.tail_block_size == 0 ? 0 : ceil_div(p.num_video, p.tail_block_size);
}

// True for bf16 or fp16, 128-row query blocks, key blocks of 64 or 128, a positive scale, 16-byte aligned pointers and
// strides.
inline bool has_kernel_layout(const BlockSparseAttentionParams& p) {
  if (p.dtype != DataType::kBFloat16 && p.dtype != DataType::kFloat16) return false;
  if (p.q_block_size != kQueryBlockRows || !(p.softmax_scale > 0.f)) return false;
  if (p.kv_block_size != 64 && p.kv_block_size != 128) return false;
  return is_aligned(p.q, p.q_strides, p.batch, p.heads) && is_aligned(p.k_carved, p.k_strides, p.batch, p.heads) &&
         is_aligned(p.v_carved, p.v_strides, p.batch, p.heads) && is_aligned(p.out, p.out_strides, p.batch, p.heads) &&
         is_aligned(p.k_tail) && is_aligned(p.v_tail) && is_aligned(p.residual);
}

}  // namespace jenga::cuda
