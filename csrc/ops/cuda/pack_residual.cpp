#include "csrc/ops/pack_residual.h"

#include <torch/csrc/stable/library.h>

#include "csrc/ops/cuda/launch_scope.h"
#include "kernels/cuda/launch.h"

namespace jenga::ops {
namespace {

std::tuple<Tensor, Tensor> pack_residual(const Tensor& dense, const Tensor& carved, int64_t bits) {
  const auto call = make_pack_residual(dense, carved, bits);
  const LaunchScope scope(dense);
  check_launch("pack_residual", cuda::pack_residual(call.params, scope.stream()));
  return call.outputs();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CUDA, m) { m.impl("pack_residual", TORCH_BOX(&pack_residual)); }

}  // namespace jenga::ops
