// Orders of the video tokens along a space-filling curve.
//
// Raster index of token (t, y, x): (t * h + y) * w + x. curve_order[r] is the raster index at curve position r and
// curve_rank its inverse: gather with the order, scatter back with the rank.
//   gilbert3d         generalised Hilbert curve of the whole box, starts at (0, 0, 0) and runs along its longest side
//   gilbert2d_sliced  one curve per frame, mirrored to start in the quadrant where the frame before it ended
//   raster            the identity
// Any grid of positive sides with fewer than 2^31 tokens; a long thin one costs no deeper recursion than a cube.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace jenga::core {

// Tokens after patchify: frames, rows, columns.
struct TokenGrid {
  int64_t t, h, w;
};

enum class CurveKind { kGilbert3d, kGilbert2dSliced, kRaster };

// "gilbert3d", "gilbert2d_sliced", "raster"; nothing for any other name.
std::optional<CurveKind> curve_kind_from_name(std::string_view name);

// t * h * w. Throws std::invalid_argument, with `op` in front, where a side is not positive or the product is too large
// for int32 indices.
int64_t checked_num_tokens(TokenGrid grid, std::string_view op);

// [t * h * w], raster index at every curve position.
std::vector<int32_t> curve_order(TokenGrid grid, CurveKind kind);

// [N], curve position of every raster index. Throws std::invalid_argument where order is no permutation of 0 .. N-1.
std::vector<int32_t> curve_rank(std::span<const int32_t> order);

}  // namespace jenga::core
