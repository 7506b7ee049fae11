#include <cstdint>

#include "kernels/cuda/sm80/attention.h"

namespace jenga::cuda::sm80 {
namespace {

constexpr int64_t kQueryBlockRows = 128;

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

bool aligned(const BlockSparseAttentionParams& params, const void* pointer, const Strides& strides) {
  return aligned(pointer) && strides.token % 8 == 0 && (params.heads == 1 || strides.head % 8 == 0) &&
         (params.batch == 1 || strides.batch % 8 == 0);
}

}  // namespace

bool supports_attention(const BlockSparseAttentionParams& params) {
  if (params.dtype != DataType::kBFloat16 && params.dtype != DataType::kFloat16) return false;
  if (params.head_dim < 8 || params.head_dim % 8 != 0 || params.head_dim > kMaxHeadDim) return false;
  if (params.q_block_size != kQueryBlockRows || !(params.softmax_scale > 0.f)) return false;
  if (params.kv_block_size != 64 && params.kv_block_size != 128) return false;
  return aligned(params, params.q, params.q_strides) && aligned(params, params.k_carved, params.k_strides) &&
         aligned(params, params.v_carved, params.v_strides) && aligned(params, params.out, params.out_strides) &&
         aligned(params.k_tail) && aligned(params.v_tail) && aligned(params.residual);
}

size_t attention_workspace(const BlockSparseAttentionParams& params) {
  return sizeof(int32_t) * params.batch * params.heads * ceil_div(params.num_video, kQueryBlockRows);
}

}  // namespace jenga::cuda::sm80
