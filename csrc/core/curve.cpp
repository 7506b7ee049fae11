// One walk over the recursion that emits the points in order: N steps instead of N inverse look-ups.
#include "csrc/core/curve.h"

#include <array>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

namespace jenga::core {
namespace {

using Vec = std::array<int64_t, 3>;  // (x, y, z)

Vec operator+(const Vec& a, const Vec& b) { return {a[0] + b[0], a[1] + b[1], a[2] + b[2]}; }
Vec operator-(const Vec& a, const Vec& b) { return {a[0] - b[0], a[1] - b[1], a[2] - b[2]}; }
Vec operator-(const Vec& a) { return {-a[0], -a[1], -a[2]}; }

int64_t size_of(const Vec& a) { return std::abs(a[0] + a[1] + a[2]); }

int64_t sign(int64_t value) { return (value > 0) - (value < 0); }
Vec unit(const Vec& a) { return {sign(a[0]), sign(a[1]), sign(a[2])}; }

// Division that rounds down, also for negative extents; truncation would change the curve on about half of all grids.
int64_t floor_half(int64_t value) { return (value - (value & 1)) / 2; }

// About half of a side, made even where the side is longer than 2, so that the path leaves a part where the next begins.
Vec half(const Vec& a) {
  const Vec halved{floor_half(a[0]), floor_half(a[1]), floor_half(a[2])};
  return size_of(halved) % 2 != 0 && size_of(a) > 2 ? halved + unit(a) : halved;
}

class Walk {
 public:
  Walk(int64_t width, int64_t height, std::vector<int32_t>& order) : width_(width), height_(height), order_(order) {}

  // The box at corner p with signed axis-aligned sides; the path enters at p and leaves at the far end of a.
  void box(const Vec& p, const Vec& a, const Vec& b, const Vec& c) {
    const int64_t w = size_of(a), h = size_of(b), d = size_of(c);
    if (h == 1 && d == 1) return line(p, unit(a), w);
    if (w == 1 && d == 1) return line(p, unit(b), h);
    if (w == 1 && h == 1) return line(p, unit(c), d);
    const Vec da = unit(a), db = unit(b), dc = unit(c);
    const Vec a2 = half(a), b2 = half(b), c2 = half(c);
    if (2 * w > 3 * h && 2 * w > 3 * d) {
      box(p, a2, b, c);
      box(p + a2, a - a2, b, c);
    } else if (3 * h > 4 * d) {
      box(p, b2, c, a2);
      box(p + b2, a, b - b2, c);
      box(p + (a - da) + (b2 - db), -b2, c, -(a - a2));
    } else if (3 * d > 4 * h) {
      box(p, c2, a2, b);
      box(p + c2, a, b, c - c2);
      box(p + (a - da) + (c2 - dc), -c2, -(a - a2), b);
    } else {
      box(p, b2, c2, a2);
      box(p + b2, c, a2, b - b2);
      box(p + (b2 - db) + (c - dc), a, -b2, -(c - c2));
      box(p + (a - da) + b2 + (c - dc), -c, -(a - a2), b - b2);
      box(p + (a - da) + (b2 - db), -b2, c2, -(a - a2));
    }
  }

 private:
  void line(Vec p, const Vec& step, int64_t count) {
    for (int64_t i = 0; i < count; ++i, p = p + step) {
      order_.push_back(static_cast<int32_t>((p[2] * height_ + p[1]) * width_ + p[0]));
    }
  }

  int64_t width_, height_;
  std::vector<int32_t>& order_;
};

// The curve of a W x H x D box, starting at the origin along its longest side.
std::vector<int32_t> gilbert(int64_t width, int64_t height, int64_t depth) {
  std::vector<int32_t> order;
  order.reserve(static_cast<size_t>(width * height * depth));
  const Vec x{width, 0, 0}, y{0, height, 0}, z{0, 0, depth};
  Walk walk(width, height, order);
  if (width >= height && width >= depth) {
    walk.box({}, x, y, z);
  } else if (height >= width && height >= depth) {
    walk.box({}, y, x, z);
  } else {
    walk.box({}, z, x, y);
  }
  return order;
}

std::vector<int32_t> gilbert_sliced(TokenGrid grid) {
  const std::vector<int32_t> frame = gilbert(grid.w, grid.h, 1);
  std::vector<int32_t> order;
  order.reserve(frame.size() * static_cast<size_t>(grid.t));
  bool flip_x = false, flip_y = false;
  for (int64_t z = 0; z < grid.t; ++z) {
    int64_t x = 0, y = 0;
    for (const int32_t index : frame) {
      x = index % grid.w;
      y = index / grid.w;
      if (flip_x) x = grid.w - 1 - x;
      if (flip_y) y = grid.h - 1 - y;
      order.push_back(static_cast<int32_t>((z * grid.h + y) * grid.w + x));
    }
    flip_x = 2 * x >= grid.w;
    flip_y = 2 * y >= grid.h;
  }
  return order;
}

void check_grid(TokenGrid grid) {
  for (const auto& [name, side] : {std::pair{"t", grid.t}, std::pair{"h", grid.h}, std::pair{"w", grid.w}}) {
    if (side < 1) {
      throw std::invalid_argument("curve_order: " + std::string(name) + " must be positive, got " +
                                  std::to_string(side));
    }
  }
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  if (grid.t > kMax / grid.h || grid.t * grid.h > kMax / grid.w) {
    throw std::invalid_argument("curve_order: t * h * w must be below 2^31, got " + std::to_string(grid.t) + " * " +
                                std::to_string(grid.h) + " * " + std::to_string(grid.w));
  }
}

}  // namespace

std::optional<CurveKind> curve_kind_from_name(std::string_view name) {
  if (name == "gilbert3d") return CurveKind::kGilbert3d;
  if (name == "gilbert2d_sliced") return CurveKind::kGilbert2dSliced;
  if (name == "raster") return CurveKind::kRaster;
  return std::nullopt;
}

std::vector<int32_t> curve_order(TokenGrid grid, CurveKind kind) {
  check_grid(grid);
  switch (kind) {
    case CurveKind::kGilbert3d:
      return gilbert(grid.w, grid.h, grid.t);
    case CurveKind::kGilbert2dSliced:
      return gilbert_sliced(grid);
    case CurveKind::kRaster: {
      std::vector<int32_t> order(static_cast<size_t>(grid.t * grid.h * grid.w));
      std::iota(order.begin(), order.end(), 0);
      return order;
    }
  }
  throw std::invalid_argument("curve_order: kind must be a CurveKind, got " + std::to_string(static_cast<int>(kind)));
}

std::vector<int32_t> curve_rank(std::span<const int32_t> order) {
  std::vector<int32_t> rank(order.size());
  for (size_t position = 0; position < order.size(); ++position) {
    rank[static_cast<size_t>(order[position])] = static_cast<int32_t>(position);
  }
  return rank;
}

}  // namespace jenga::core
