#include "csrc/ops/prepare_blocks.h"

#include <torch/csrc/stable/library.h>

#include "csrc/ops/cuda/launch_scope.h"
#include "kernels/cuda/launch.h"

namespace jenga::ops {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> prepare_blocks(const Tensor& q, const Tensor& k,
                                                                          const Tensor& v, const Tensor& token_index,
                                                                          int64_t num_context, int64_t q_cell_size,
                                                                          int64_t k_cell_size, int64_t tail_block_size,
                                                                          std::optional<Tensor> context_bias) {
  const auto call =
      make_prepare_blocks(q, k, v, token_index, num_context, q_cell_size, k_cell_size, tail_block_size, context_bias);
  const LaunchScope scope(q);
  check_launch("prepare_blocks", cuda::prepare_blocks(call.params, scope.stream()));
  return call.outputs();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CUDA, m) { m.impl("prepare_blocks", TORCH_BOX(&prepare_blocks)); }

}  // namespace jenga::ops
