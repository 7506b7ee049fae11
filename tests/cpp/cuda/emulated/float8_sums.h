// Sums of e4m3 products as Hopper takes them: of a running sum and 32 products the largest exponent says what 14 bits
// are kept of each, the rest is cut off, and of the new sum 14 bits are kept.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/numeric.h"

namespace jenga::emulated {

inline int exponent_of(float value) { return value == 0.f ? -1000 : std::ilogb(value); }
inline float cut_off(double value, int exponent) {
  return std::ldexp(std::trunc(std::ldexp(value, 13 - exponent)), exponent - 13);
}

inline float add_products(float sum, const float (&a)[32], const float (&b)[32]) {
  int top = exponent_of(sum);
  for (int k = 0; k < 32; ++k)
    if (a[k] != 0.f && b[k] != 0.f) top = std::max(top, exponent_of(a[k]) + exponent_of(b[k]));
  if (top == -1000) return 0.f;
  double total = cut_off(sum, top);
  for (int k = 0; k < 32; ++k) total += cut_off(double{a[k]} * b[k], top);
  return total == 0. ? 0.f : cut_off(total, std::ilogb(total));
}

}  // namespace jenga::emulated
