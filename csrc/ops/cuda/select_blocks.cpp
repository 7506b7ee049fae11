#include "csrc/ops/select_blocks.h"

#include <torch/csrc/stable/library.h>

#include "csrc/ops/cuda/launch_scope.h"
#include "kernels/cuda/launch.h"

namespace jenga::ops {
namespace {

constexpr const char* kOp = "select_blocks";

std::tuple<Tensor, Tensor> select_blocks(const Tensor& q_pool, const Tensor& k_pool, std::optional<Tensor> adjacency,
                                         int64_t min_blocks, double top_p, double softmax_scale) {
  const auto call = make_select_blocks(q_pool, k_pool, adjacency, min_blocks, top_p, softmax_scale);
  const LaunchScope scope(q_pool);
  int64_t most = 0;
  check_launch(kOp, cuda::most_selectable_blocks(call.params.head_dim, &most));
  JENGA_REQUIRE(call.params.num_kv_blocks <= most, kOp, ": k_pool must have at most ", most,
                " blocks a head on this GPU (their scores stay in shared memory), got ", call.params.num_kv_blocks,
                "; take key blocks of 128 tokens or the torch backend");
  check_launch(kOp, cuda::select_blocks(call.params, scope.stream()));
  return call.outputs();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CUDA, m) { m.impl("select_blocks", TORCH_BOX(&select_blocks)); }

}  // namespace jenga::ops
