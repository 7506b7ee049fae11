#include "csrc/ops/block_sparse_attention.h"

#include <torch/csrc/stable/library.h>

#include "csrc/ops/cpu/parallel.h"
#include "kernels/cpu/dispatch.h"

namespace jenga::ops {
namespace {

std::tuple<Tensor, Tensor> block_sparse_attention(const Tensor& q, const Tensor& k_carved, const Tensor& v_carved,
                                                  const Tensor& kv_block_index, const Tensor& kv_block_count,
                                                  const Tensor& token_index, int64_t num_context, int64_t q_block_size,
                                                  int64_t kv_block_size, double softmax_scale,
                                                  std::optional<Tensor> context_bias, std::optional<Tensor> k_tail,
                                                  std::optional<Tensor> v_tail, int64_t tail_block_size,
                                                  std::optional<Tensor> residual,
                                                  std::optional<Tensor> residual_scale) {
  const auto call = make_block_sparse_attention({q, k_carved, v_carved, kv_block_index, kv_block_count, token_index,
                                                 num_context, q_block_size, kv_block_size, softmax_scale, context_bias,
                                                 k_tail, v_tail, tail_block_size, residual, residual_scale});
  cpu::live_table().block_sparse_attention(call.params, parallel_for);
  return call.outputs();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CPU, m) { m.impl("block_sparse_attention", TORCH_BOX(&block_sparse_attention)); }

}  // namespace jenga::ops
