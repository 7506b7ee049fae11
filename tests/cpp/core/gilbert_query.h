// The curve as the method defines it: the index of one point, by asking at every level which box holds it. Slow, and
// independent of the walk that csrc/core does. The rounding of half a side is a parameter.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "csrc/core/curve.h"

namespace jenga::core {

using Vector = std::array<int64_t, 3>;  // x, y, z

inline Vector operator+(Vector u, Vector v) { return {u[0] + v[0], u[1] + v[1], u[2] + v[2]}; }
inline Vector operator-(Vector u, Vector v) { return {u[0] - v[0], u[1] - v[1], u[2] - v[2]}; }
inline Vector operator-(Vector u) { return {-u[0], -u[1], -u[2]}; }
inline int64_t length(Vector u) { return std::abs(u[0] + u[1] + u[2]); }
inline Vector sign(Vector u) {
  for (int64_t& e : u) e = (e > 0) - (e < 0);
  return u;
}

using Halve = int64_t (*)(int64_t);
inline int64_t halve_down(int64_t e) { return e >= 0 ? e / 2 : -((-e + 1) / 2); }
inline int64_t halve_towards_zero(int64_t e) { return e / 2; }

inline Vector half(Vector u, Halve halve) {
  const Vector result = {halve(u[0]), halve(u[1]), halve(u[2])};
  return length(result) % 2 == 1 && length(u) > 2 ? result + sign(u) : result;
}

struct Box {
  Vector p, a, b, c;

  int64_t volume() const { return length(a) * length(b) * length(c); }
  bool holds(Vector q) const {
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t extent = a[axis] + b[axis] + c[axis], offset = q[axis] - p[axis];
      if (extent >= 0 ? offset < 0 || offset >= extent : offset > 0 || offset <= extent) return false;
    }
    return true;
  }
};

// The boxes that a box is cut into, in visiting order.
inline std::vector<Box> cut(const Box& box, Halve halve) {
  const auto& [p, a, b, c] = box;
  const int64_t w = length(a), h = length(b), d = length(c);
  const Vector da = sign(a), db = sign(b), dc = sign(c);
  const Vector a2 = half(a, halve), b2 = half(b, halve), c2 = half(c, halve);
  if (2 * w > 3 * h && 2 * w > 3 * d) return {{p, a2, b, c}, {p + a2, a - a2, b, c}};
  if (3 * h > 4 * d) {
    return {{p, b2, c, a2}, {p + b2, a, b - b2, c}, {p + (a - da) + (b2 - db), -b2, c, -(a - a2)}};
  }
  if (3 * d > 4 * h) {
    return {{p, c2, a2, b}, {p + c2, a, b, c - c2}, {p + (a - da) + (c2 - dc), -c2, -(a - a2), b}};
  }
  return {{p, b2, c2, a2},
          {p + b2, c, a2, b - b2},
          {p + (b2 - db) + (c - dc), a, -b2, -(c - c2)},
          {p + (a - da) + b2 + (c - dc), -c, -(a - a2), b - b2},
          {p + (a - da) + (b2 - db), -b2, c2, -(a - a2)}};
}

inline int64_t curve_index(Box box, Vector q, Halve halve) {
  int64_t index = 0;
  for (;;) {
    const int sides_longer_than_one = (length(box.a) > 1) + (length(box.b) > 1) + (length(box.c) > 1);
    if (sides_longer_than_one <= 1) return index + length(q - box.p);
    bool found = false;
    for (const Box& part : cut(box, halve)) {
      if ((found = part.volume() > 0 && part.holds(q))) {
        box = part;
        break;
      }
      index += part.volume();
    }
    if (!found) return -1;
  }
}

inline std::vector<int32_t> queried_order(TokenGrid grid, Halve halve) {
  const auto [t, h, w] = grid;
  const Vector x = {w, 0, 0}, y = {0, h, 0}, z = {0, 0, t};
  const Box box = w >= h && w >= t ? Box{{}, x, y, z} : h >= w && h >= t ? Box{{}, y, x, z} : Box{{}, z, x, y};
  std::vector<int32_t> order(t * h * w, -1);
  for (int32_t token = 0; token < static_cast<int32_t>(order.size()); ++token) {
    const int64_t index = curve_index(box, {token % w, token / w % h, token / (w * h)}, halve);
    if (index >= 0 && index < static_cast<int64_t>(order.size())) order[index] = token;
  }
  return order;
}

}  // namespace jenga::core
