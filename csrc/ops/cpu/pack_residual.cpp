#include "csrc/ops/pack_residual.h"

#include <torch/csrc/stable/library.h>

#include "csrc/ops/cpu/parallel.h"
#include "kernels/cpu/dispatch.h"

namespace jenga::ops {
namespace {

std::tuple<Tensor, Tensor> pack_residual(const Tensor& dense, const Tensor& carved, int64_t bits) {
  const auto call = make_pack_residual(dense, carved, bits);
  cpu::live_table().pack_residual(call.params, parallel_for);
  return call.outputs();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CPU, m) { m.impl("pack_residual", TORCH_BOX(&pack_residual)); }

}  // namespace jenga::ops
