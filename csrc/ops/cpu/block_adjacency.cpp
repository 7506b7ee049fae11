#include <algorithm>

#include "csrc/core/adjacency.h"
#include "csrc/ops/boxed.h"
#include "csrc/ops/curve.h"

namespace jenga::ops {
namespace {

Tensor block_adjacency(int64_t t, int64_t h, int64_t w, std::string curve, int64_t block_size) {
  constexpr const char* kOp = "block_adjacency";
  const core::TokenGrid grid = checked_grid(kOp, t, h, w);
  const core::CurveKind kind = checked_curve(kOp, curve);
  JENGA_REQUIRE(block_size > 0, kOp, ": block_size must be positive, got ", block_size);
  block_size = std::min(block_size, t * h * w);  // one block either way; sums cannot overflow
  const std::vector<uint8_t> adjacent = core::block_adjacency(grid, core::curve_order(grid, kind), block_size);
  const int64_t blocks = ceil_div(t * h * w, block_size);
  const int64_t sizes[2] = {blocks, blocks};
  Tensor result = torch::stable::empty(torch::headeronly::IntHeaderOnlyArrayRef(sizes, 2), ScalarType::Bool,
                                       std::nullopt, torch::stable::Device(torch::headeronly::DeviceType::CPU));
  std::copy(adjacent.begin(), adjacent.end(), static_cast<uint8_t*>(result.mutable_data_ptr()));
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CompositeExplicitAutograd, m) {
  m.impl("block_adjacency", JENGA_BOX(&block_adjacency));
}

}  // namespace jenga::ops
