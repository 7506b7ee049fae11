// tail_bias: checks, output and kernel parameters, the same for CPU and CUDA.
#pragma once

#include "csrc/ops/convert.h"

namespace jenga::ops {

struct TailBiasCall {
  TailBiasParams params;
  Tensor q_means, k_means;  // keep alive what params points to
  Tensor tail_bias;

  Tensor outputs() const { return tail_bias; }
};

inline void check_tail_bias(const Tensor& q_means, const Tensor& k_means, int64_t num_video, int64_t k_cell_size,
                            int64_t tail_block_size, double softmax_scale) {
  constexpr const char* kOp = "tail_bias";
  JENGA_REQUIRE(q_means.dim() == 4, kOp, ": q_means must have 4 dimensions [B, H, nqc, D], got shape ", Shape(q_means));
  JENGA_REQUIRE(k_means.dim() == 4, kOp, ": k_means must have 4 dimensions [B, H, nkc, D], got shape ", Shape(k_means));
  JENGA_REQUIRE(num_video >= 1, kOp, ": num_video must be at least 1, got ", num_video);
  const bool known = k_cell_size == 8 || k_cell_size == 16 || k_cell_size == 32 || k_cell_size == 64;
  JENGA_REQUIRE(known, kOp, ": k_cell_size must be 8, 16, 32 or 64, got ", k_cell_size);
  const int64_t parts = tail_block_size / k_cell_size;
  const bool fits = parts * k_cell_size == tail_block_size && (parts == 2 || parts == 4 || parts == 8);
  JENGA_REQUIRE(fits, kOp, ": tail_block_size must be 2, 4 or 8 times k_cell_size (", k_cell_size, "), got ",
                tail_block_size, "; a tail cell that is one key cell counts as its tokens");
  check_attention_tensor(kOp, "q_means", q_means);
  check_like(kOp, "k_means", k_means, "q_means", q_means,
             {q_means.size(0), q_means.size(1), ceil_div(num_video, k_cell_size), q_means.size(3)});
  check_softmax_scale(kOp, softmax_scale);
}

inline TailBiasCall make_tail_bias(const Tensor& q_means, const Tensor& k_means, int64_t num_video, int64_t k_cell_size,
                                   int64_t tail_block_size, double softmax_scale) {
  check_tail_bias(q_means, k_means, num_video, k_cell_size, tail_block_size, softmax_scale);
  const int64_t batch = q_means.size(0), heads = q_means.size(1);
  TailBiasCall call{
      .params = {},
      .q_means = as_array(q_means),
      .k_means = as_array(k_means),
      .tail_bias = new_tensor(q_means, {batch, heads, ceil_div(num_video, tail_block_size)}, ScalarType::Float),
  };
  call.params = {
      .dtype = data_type(q_means.scalar_type()),
      .q_means = call.q_means.const_data_ptr(),
      .k_means = call.k_means.const_data_ptr(),
      .tail_bias = mutable_data<float>(call.tail_bias),
      .batch = batch,
      .heads = heads,
      .head_dim = q_means.size(3),
      .num_q_cells = q_means.size(2),
      .num_video = num_video,
      .k_cell_size = k_cell_size,
      .tail_block_size = tail_block_size,
      .softmax_scale = static_cast<float>(softmax_scale),
  };
  return call;
}

}  // namespace jenga::ops
