#include "csrc/ops/select_blocks.h"

#include <torch/csrc/stable/library.h>

#include "csrc/ops/cuda/launch_scope.h"
#include "kernels/cuda/launch.h"

namespace jenga::ops {
namespace {

std::tuple<Tensor, Tensor> select_blocks(const Tensor& q_pool, const Tensor& k_pool, std::optional<Tensor> adjacency,
                                         int64_t min_blocks, double top_p, double softmax_scale) {
  const auto call = make_select_blocks(q_pool, k_pool, adjacency, min_blocks, top_p, softmax_scale);
  const LaunchScope scope(q_pool);
  check_launch("select_blocks", cuda::select_blocks(call.params, scope.stream()));
  return call.outputs();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CUDA, m) { m.impl("select_blocks", TORCH_BOX(&select_blocks)); }

}  // namespace jenga::ops
