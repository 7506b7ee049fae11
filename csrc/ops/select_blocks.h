// select_blocks: checks, outputs and kernel parameters, the same for CPU and CUDA.
// The width of a list, max_kv, follows from the arguments alone, so that no device has to be asked: at most min_blocks
// are kept unless top_p or adjacency may add blocks.
#pragma once

#include <algorithm>
#include <optional>
#include <tuple>

#include "csrc/ops/convert.h"

namespace jenga::ops {

struct SelectBlocksCall {
  SelectBlocksParams params;
  Tensor q_pool, k_pool;  // keep alive what params points to
  std::optional<Tensor> adjacency;
  Tensor kv_block_index, kv_block_count;

  std::tuple<Tensor, Tensor> outputs() const { return {kv_block_index, kv_block_count}; }
};

inline SelectBlocksCall make_select_blocks(const Tensor& q_pool, const Tensor& k_pool,
                                           const std::optional<Tensor>& adjacency, int64_t min_blocks, double top_p,
                                           double softmax_scale) {
  constexpr const char* kOp = "select_blocks";
  JENGA_REQUIRE(q_pool.dim() == 4, kOp, ": q_pool must have 4 dimensions [B, H, nq, D], got shape ", Shape(q_pool));
  JENGA_REQUIRE(k_pool.dim() == 4, kOp, ": k_pool must have 4 dimensions [B, H, nkv, D], got shape ", Shape(k_pool));
  JENGA_REQUIRE(q_pool.numel() > 0, kOp, ": q_pool must not be empty, got shape ", Shape(q_pool));
  JENGA_REQUIRE(k_pool.numel() > 0, kOp, ": k_pool must not be empty, got shape ", Shape(k_pool));
  check_dtype(kOp, "q_pool", q_pool, ScalarType::Float);
  const int64_t batch = q_pool.size(0), heads = q_pool.size(1), num_q = q_pool.size(2), head_dim = q_pool.size(3);
  const int64_t num_kv = k_pool.size(2);
  check_head_dim(kOp, "q_pool", head_dim);
  check_no_grad(kOp, "q_pool", q_pool);
  check_like(kOp, "k_pool", k_pool, "q_pool", q_pool, {batch, heads, num_kv, head_dim});
  if (adjacency) {
    check_device(kOp, "adjacency", *adjacency, "q_pool", q_pool);
    check_dtype(kOp, "adjacency", *adjacency, ScalarType::Bool);
    check_shape(kOp, "adjacency", *adjacency, {num_q, num_kv});
  }
  JENGA_REQUIRE(min_blocks >= 1, kOp, ": min_blocks must be at least 1, got ", min_blocks);
  JENGA_REQUIRE(top_p >= 0 && top_p <= 1, kOp, ": top_p must be from 0 to 1, got ", top_p);
  check_softmax_scale(kOp, softmax_scale);

  const int64_t max_kv = top_p > 0 || adjacency ? num_kv : std::min(min_blocks, num_kv);
  SelectBlocksCall call{
      .params = {},
      .q_pool = as_array(q_pool),
      .k_pool = as_array(k_pool),
      .adjacency = as_array(adjacency),
      .kv_block_index = new_tensor(q_pool, {batch, heads, num_q, max_kv}, ScalarType::Int),
      .kv_block_count = new_tensor(q_pool, {batch, heads, num_q}, ScalarType::Int),
  };
  call.params = {
      .q_pool = data<float>(call.q_pool),
      .k_pool = data<float>(call.k_pool),
      .adjacency = data_or_null<uint8_t>(call.adjacency),
      .kv_block_index = mutable_data<int32_t>(call.kv_block_index),
      .kv_block_count = mutable_data<int32_t>(call.kv_block_count),
      .batch = batch,
      .heads = heads,
      .head_dim = head_dim,
      .num_q_blocks = num_q,
      .num_kv_blocks = num_kv,
      .max_kv = max_kv,
      .min_blocks = std::min(min_blocks, num_kv),
      .top_p = static_cast<float>(top_p),
      .softmax_scale = static_cast<float>(softmax_scale),
  };
  return call;
}

}  // namespace jenga::ops
