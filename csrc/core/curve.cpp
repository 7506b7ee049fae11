// The generalised Hilbert ("Gilbert") curve, walked once. A box is a corner and three signed sides a, b, c; its path
// enters at the corner and leaves at the far end of a. A box is cut into two, three or five smaller ones, visited so
// that each starts beside the end of the one before it, until two of its sides are 1 and it is a straight line.
#include "csrc/core/curve.h"

#include <cstdlib>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

namespace jenga::core {
namespace {

// An axis-aligned vector: signed length in tokens, and the raster distance of neighbours on that axis. With the axis
// folded into the distance a corner is one number, its raster index.
struct Side {
  int64_t length;
  int64_t stride;

  int64_t tokens() const { return std::abs(length); }
  int64_t extent() const { return length * stride; }              // corner to past the end
  int64_t step() const { return length < 0 ? -stride : stride; }  // to the next token
  int64_t to_last() const { return extent() - step(); }           // corner to the last token
  Side operator-() const { return {-length, stride}; }
  Side operator-(Side other) const { return {length - other.length, stride}; }

  // Rounded down, not towards zero: a side that points backwards is cut elsewhere than one that points forwards, and
  // the published order depends on it. Then made even where possible, so that most steps have unit length.
  Side half() const {
    const int64_t floor = length >> 1;
    const bool make_even = floor % 2 != 0 && tokens() > 2;
    return {make_even ? floor + (length < 0 ? -1 : 1) : floor, stride};
  }
};

class GilbertWalk {
 public:
  explicit GilbertWalk(std::vector<int32_t>& order) : order_(order) {}

  // Every recursion at least shortens one side by a third, so the depth is bounded by the logarithm of the volume.
  void box(int64_t p, Side a, Side b, Side c) {
    const int64_t w = a.tokens(), h = b.tokens(), d = c.tokens();
    if (w == 0 || h == 0 || d == 0) return;  // half of a side of 1 is 0
    if (h == 1 && d == 1) return line(p, a);
    if (w == 1 && d == 1) return line(p, b);
    if (w == 1 && h == 1) return line(p, c);

    const Side a2 = a.half(), b2 = b.half(), c2 = c.half();
    const Side rest_a = a - a2, rest_b = b - b2, rest_c = c - c2;
    if (2 * w > 3 * h && 2 * w > 3 * d) {  // long: cut a only
      box(p, a2, b, c);
      box(p + a2.extent(), rest_a, b, c);
    } else if (3 * h > 4 * d) {  // flat in c: the three turns of a plane curve
      box(p, b2, c, a2);
      box(p + b2.extent(), a, rest_b, c);
      box(p + a.to_last() + b2.to_last(), -b2, c, -rest_a);
    } else if (3 * d > 4 * h) {  // flat in b
      box(p, c2, a2, b);
      box(p + c2.extent(), a, b, rest_c);
      box(p + a.to_last() + c2.to_last(), -c2, -rest_a, b);
    } else {
      box(p, b2, c2, a2);
      box(p + b2.extent(), c, a2, rest_b);
      box(p + b2.to_last() + c.to_last(), a, -b2, -rest_c);
      box(p + a.to_last() + b2.extent() + c.to_last(), -c, -rest_a, rest_b);
      box(p + a.to_last() + b2.to_last(), -b2, c2, -rest_a);
    }
  }

 private:
  void line(int64_t p, Side side) {
    for (int64_t i = 0; i < side.tokens(); ++i, p += side.step()) order_.push_back(static_cast<int32_t>(p));
  }

  std::vector<int32_t>& order_;
};

std::vector<int32_t> gilbert(TokenGrid grid) {
  std::vector<int32_t> order;
  order.reserve(grid.t * grid.h * grid.w);
  const Side x{grid.w, 1}, y{grid.h, grid.w}, z{grid.t, grid.w * grid.h};
  GilbertWalk walk(order);
  if (grid.w >= grid.h && grid.w >= grid.t) {
    walk.box(0, x, y, z);
  } else if (grid.h >= grid.w && grid.h >= grid.t) {
    walk.box(0, y, x, z);
  } else {
    walk.box(0, z, x, y);
  }
  return order;
}

std::vector<int32_t> gilbert_sliced(TokenGrid grid) {
  const auto [t, h, w] = grid;
  const std::vector<int32_t> frame = gilbert({1, h, w});
  std::vector<int32_t> order;
  order.reserve(t * h * w);
  int64_t end_x = 0, end_y = 0;
  for (int64_t z = 0; z < t; ++z) {
    const bool flip_x = z > 0 && 2 * end_x >= w;
    const bool flip_y = z > 0 && 2 * end_y >= h;
    for (const int32_t token : frame) {
      end_x = flip_x ? w - 1 - token % w : token % w;
      end_y = flip_y ? h - 1 - token / w : token / w;
      order.push_back(static_cast<int32_t>((z * h + end_y) * w + end_x));
    }
  }
  return order;
}

}  // namespace

std::optional<CurveKind> curve_kind_from_name(std::string_view name) {
  if (name == "gilbert3d") return CurveKind::kGilbert3d;
  if (name == "gilbert2d_sliced") return CurveKind::kGilbert2dSliced;
  if (name == "raster") return CurveKind::kRaster;
  return std::nullopt;
}

int64_t checked_num_tokens(TokenGrid grid, std::string_view op) {
  constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
  int64_t tokens = 1;
  for (const auto& [name, side] : {std::pair("t", grid.t), std::pair("h", grid.h), std::pair("w", grid.w)}) {
    if (side <= 0) {
      throw std::invalid_argument(std::string(op) + ": " + name + " must be positive, got " + std::to_string(side));
    }
    // Divided, not multiplied: the product of unchecked sides may overflow.
    if (side > kMaxTokens / tokens) {
      throw std::invalid_argument(std::string(op) + ": t * h * w must be at most " + std::to_string(kMaxTokens) +
                                  ", got " + std::to_string(grid.t) + " * " + std::to_string(grid.h) + " * " +
                                  std::to_string(grid.w));
    }
    tokens *= side;
  }
  return tokens;
}

std::vector<int32_t> curve_order(TokenGrid grid, CurveKind kind) {
  const int64_t tokens = checked_num_tokens(grid, "curve_order");
  switch (kind) {
    case CurveKind::kGilbert3d:
      return gilbert(grid);
    case CurveKind::kGilbert2dSliced:
      return gilbert_sliced(grid);
    case CurveKind::kRaster:
      break;
  }
  std::vector<int32_t> order(tokens);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

std::vector<int32_t> curve_rank(std::span<const int32_t> order) {
  const auto tokens = static_cast<int64_t>(order.size());
  if (tokens > std::numeric_limits<int32_t>::max()) {
    throw std::invalid_argument("curve_rank: order must have at most 2147483647 entries, got " +
                                std::to_string(tokens));
  }
  constexpr int32_t kUnseen = -1;
  std::vector<int32_t> rank(tokens, kUnseen);
  for (int64_t r = 0; r < tokens; ++r) {
    const int32_t token = order[r];
    if (token < 0 || token >= tokens || rank[token] != kUnseen) {
      throw std::invalid_argument("curve_rank: order must be a permutation of 0 .. " + std::to_string(tokens - 1) +
                                  ", got " + std::to_string(token) + " at position " + std::to_string(r));
    }
    rank[token] = static_cast<int32_t>(r);
  }
  return rank;
}

}  // namespace jenga::core
