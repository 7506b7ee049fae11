// Cache-line aligned floats, not cleared. For files without instruction-set flags only: templates here are weak
// symbols.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/params.h"

namespace jenga::cpu {

struct FreeScratch {
  void operator()(float* data) const { std::free(data); }
};
using Scratch = std::unique_ptr<float[], FreeScratch>;

inline Scratch make_scratch(int64_t floats) {
  const auto bytes = static_cast<size_t>(round_up(floats * 4 + 64, 64));
  auto* data = static_cast<float*>(std::aligned_alloc(64, bytes));
  if (!data) throw std::bad_alloc();
  return Scratch(data);
}

}  // namespace jenga::cpu
