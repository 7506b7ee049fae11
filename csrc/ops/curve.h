// The arguments that curve_order and block_adjacency share.
#pragma once

#include <limits>
#include <string>

#include "csrc/core/curve.h"
#include "csrc/ops/checks.h"

namespace jenga::ops {

inline core::TokenGrid checked_grid(const char* op, int64_t t, int64_t h, int64_t w) {
  // Indices are int32: the product is limited, and each factor first, so that the product cannot overflow.
  constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
  const bool fits = t > 0 && h > 0 && w > 0 && t <= kMaxTokens && h <= kMaxTokens / t && w <= kMaxTokens / (t * h);
  JENGA_REQUIRE(fits, op, ": t, h, w must be positive and t * h * w at most ", kMaxTokens, ", got ", t, ", ", h, ", ",
                w);
  return {t, h, w};
}

inline core::CurveKind checked_curve(const char* op, const std::string& name) {
  const auto kind = core::curve_kind_from_name(name);
  JENGA_REQUIRE(kind.has_value(), op, ": curve must be gilbert3d, gilbert2d_sliced or raster, got ", name);
  return *kind;
}

}  // namespace jenga::ops
