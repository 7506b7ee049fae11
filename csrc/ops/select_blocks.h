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
  Tensor q_means, k_means;  // keep alive what params points to
  std::optional<Tensor> adjacency;
  Tensor kv_block_index, kv_block_count;

  std::tuple<Tensor, Tensor> outputs() const { return {kv_block_index, kv_block_count}; }
};

// The numbers of the schema, in its order.
struct SelectBlocksNumbers {
  int64_t num_video, q_block_size, kv_block_size, q_cells, k_cells, min_blocks;
  double top_p, softmax_scale;
};

inline void check_select_blocks(const Tensor& q_means, const Tensor& k_means, const std::optional<Tensor>& adjacency,
                                const SelectBlocksNumbers& n) {
  constexpr const char* kOp = "select_blocks";
  JENGA_REQUIRE(q_means.dim() == 4, kOp, ": q_means must have 4 dimensions [B, H, nqc, D], got shape ", Shape(q_means));
  JENGA_REQUIRE(k_means.dim() == 4, kOp, ": k_means must have 4 dimensions [B, H, nkc, D], got shape ", Shape(k_means));
  JENGA_REQUIRE(n.num_video >= 1, kOp, ": num_video must be at least 1, got ", n.num_video);
  check_q_block_size(kOp, n.q_block_size, q_means.is_cuda());
  check_kv_block_size(kOp, n.kv_block_size);
  check_score_cells(kOp, "q_cells", n.q_cells);
  check_score_cells(kOp, "k_cells", n.k_cells);
  check_attention_tensor(kOp, "q_means", q_means);
  const int64_t batch = q_means.size(0), heads = q_means.size(1), head_dim = q_means.size(3);
  check_shape(kOp, "q_means", q_means, {batch, heads, ceil_div(n.num_video, n.q_block_size / n.q_cells), head_dim});
  check_like(kOp, "k_means", k_means, "q_means", q_means,
             {batch, heads, ceil_div(n.num_video, n.kv_block_size / n.k_cells), head_dim});
  if (adjacency) {
    check_device(kOp, "adjacency", *adjacency, "q_means", q_means);
    check_dtype(kOp, "adjacency", *adjacency, ScalarType::Bool);
    check_shape(kOp, "adjacency", *adjacency,
                {ceil_div(n.num_video, n.q_block_size), ceil_div(n.num_video, n.kv_block_size)});
  }
  JENGA_REQUIRE(n.min_blocks >= 1, kOp, ": min_blocks must be at least 1, got ", n.min_blocks);
  JENGA_REQUIRE(n.top_p >= 0 && n.top_p <= 1, kOp, ": top_p must be from 0 to 1, got ", n.top_p);
  check_softmax_scale(kOp, n.softmax_scale);
}

inline SelectBlocksCall make_select_blocks(const Tensor& q_means, const Tensor& k_means,
                                           const std::optional<Tensor>& adjacency, int64_t num_video,
                                           int64_t q_block_size, int64_t kv_block_size, int64_t q_cells,
                                           int64_t k_cells, int64_t min_blocks, double top_p, double softmax_scale) {
  const SelectBlocksNumbers n{num_video, q_block_size, kv_block_size, q_cells,
                              k_cells,   min_blocks,   top_p,         softmax_scale};
  check_select_blocks(q_means, k_means, adjacency, n);
  const int64_t batch = q_means.size(0), heads = q_means.size(1);
  const int64_t num_q = ceil_div(n.num_video, n.q_block_size), num_kv = ceil_div(n.num_video, n.kv_block_size);
  const int64_t max_kv = n.top_p > 0 || adjacency ? num_kv : std::min(n.min_blocks, num_kv);
  SelectBlocksCall call{
      .params = {},
      .q_means = as_array(q_means),
      .k_means = as_array(k_means),
      .adjacency = as_array(adjacency),
      .kv_block_index = new_tensor(q_means, {batch, heads, num_q, max_kv}, ScalarType::Int),
      .kv_block_count = new_tensor(q_means, {batch, heads, num_q}, ScalarType::Int),
  };
  call.params = {
      .dtype = data_type(q_means.scalar_type()),
      .q_means = call.q_means.const_data_ptr(),
      .k_means = call.k_means.const_data_ptr(),
      .adjacency = data_or_null<uint8_t>(call.adjacency),
      .kv_block_index = mutable_data<int32_t>(call.kv_block_index),
      .kv_block_count = mutable_data<int32_t>(call.kv_block_count),
      .batch = batch,
      .heads = heads,
      .head_dim = q_means.size(3),
      .num_video = n.num_video,
      .max_kv = max_kv,
      .q_block_size = n.q_block_size,
      .kv_block_size = n.kv_block_size,
      .q_cells = n.q_cells,
      .k_cells = n.k_cells,
      .min_blocks = std::min(n.min_blocks, num_kv),
      .top_p = static_cast<float>(n.top_p),
      .softmax_scale = static_cast<float>(n.softmax_scale),
  };
  return call;
}

}  // namespace jenga::ops
