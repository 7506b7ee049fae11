#include <algorithm>

#include "csrc/ops/boxed.h"
#include "csrc/ops/curve.h"

namespace jenga::ops {
namespace {

// No tensor comes in, so none says where to compute: the order is made on the CPU, for every backend.
Tensor curve_order(int64_t t, int64_t h, int64_t w, std::string curve) {
  constexpr const char* kOp = "curve_order";
  const core::TokenGrid grid = checked_grid(kOp, t, h, w);
  const std::vector<int32_t> order = core::curve_order(grid, checked_curve(kOp, curve));
  const int64_t tokens = static_cast<int64_t>(order.size());
  Tensor result = torch::stable::empty(torch::headeronly::IntHeaderOnlyArrayRef(&tokens, 1), ScalarType::Int,
                                       std::nullopt, torch::stable::Device(torch::headeronly::DeviceType::CPU));
  std::copy(order.begin(), order.end(), static_cast<int32_t*>(result.mutable_data_ptr()));
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CompositeExplicitAutograd, m) { m.impl("curve_order", JENGA_BOX(&curve_order)); }

}  // namespace jenga::ops
