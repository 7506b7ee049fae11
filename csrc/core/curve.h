// Token order of a video grid. Raster index = (t * H + y) * W + x.
//
// gilbert3d        generalised Hilbert curve over (t, y, x) for any box (paper section on block-wise token layout)
// gilbert2d_sliced one 2-D curve per frame; a frame is mirrored so that it starts where the last one ended
// raster           the identity
//
// curve_order[r] is the raster index at curve position r, curve_rank its inverse.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace jenga::core {

struct TokenGrid {
  int64_t t, h, w;
};

enum class CurveKind { kGilbert3d, kGilbert2dSliced, kRaster };

std::optional<CurveKind> curve_kind_from_name(std::string_view name);

// Throws std::invalid_argument for a side below 1 and for grids of 2^31 tokens or more.
std::vector<int32_t> curve_order(TokenGrid grid, CurveKind kind);
std::vector<int32_t> curve_rank(std::span<const int32_t> order);

}  // namespace jenga::core
