// block_sparse_attention: checks, outputs and kernel parameters, the same for CPU and CUDA.
// out has shape [B, H, S, D] over memory [B, S, H, D]: the host's next step is a projection of [B, S, H * D].
#pragma once

#include <cmath>
#include <optional>
#include <tuple>

#include "csrc/ops/convert.h"

namespace jenga::ops {

struct BlockSparseAttentionCall {
  BlockSparseAttentionParams params;
  Tensor q, k_carved, v_carved, kv_block_index, kv_block_count, token_index;  // keep alive what params points to
  std::optional<Tensor> context_bias, k_tail, v_tail, residual, residual_scale;
  Tensor out, lse;

  std::tuple<Tensor, Tensor> outputs() const { return {out, lse}; }
};

// The operator's arguments, in the order of the schema.
struct BlockSparseAttentionArgs {
  const Tensor &q, &k_carved, &v_carved, &kv_block_index, &kv_block_count, &token_index;
  int64_t num_context, q_block_size, kv_block_size;
  double softmax_scale;
  const std::optional<Tensor>&context_bias, &k_tail, &v_tail;
  int64_t tail_block_size;
  const std::optional<Tensor>&residual, &residual_scale;
};

BlockSparseAttentionCall make_block_sparse_attention(const BlockSparseAttentionArgs& args);

}  // namespace jenga::ops
