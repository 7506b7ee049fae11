// What every attention kernel asks of a call, beside its own head dims.
#pragma once

#include <cstdint>

#include "kernels/params.h"

namespace jenga::cuda {

inline constexpr int64_t kQueryBlockRows = 128;

inline bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Every row of a [B, H, rows, D] operand starts on 16 bytes.
inline bool is_aligned(const BlockSparseAttentionParams& params, const void* pointer, const Strides& strides) {
  return is_aligned(pointer) && strides.token % 8 == 0 && (params.heads == 1 || strides.head % 8 == 0) &&
         (params.batch == 1 || strides.batch % 8 == 0);
}

// True for bf16 or fp16, 128-row query blocks, key blocks of 64 or 128, a positive scale, 16-byte aligned pointers and
// strides.
inline bool has_kernel_layout(const BlockSparseAttentionParams& params) {
  if (params.dtype != DataType::kBFloat16 && params.dtype != DataType::kFloat16) return false;
  if (params.q_block_size != kQueryBlockRows || !(params.softmax_scale > 0.f)) return false;
  if (params.kv_block_size != 64 && params.kv_block_size != 128) return false;
  return is_aligned(params, params.q, params.q_strides) && is_aligned(params, params.k_carved, params.k_strides) &&
         is_aligned(params, params.v_carved, params.v_strides) && is_aligned(params, params.out, params.out_strides) &&
         is_aligned(params.k_tail) && is_aligned(params.v_tail) && is_aligned(params.residual);
}

}  // namespace jenga::cuda
