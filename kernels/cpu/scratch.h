// Cache-line aligned memory, not cleared. For files without instruction-set flags only: functions here are weak
// symbols.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/params.h"

namespace jenga::cpu {

struct FreeScratch {
  void operator()(void* data) const { std::free(data); }
};
using Scratch = std::unique_ptr<std::byte[], FreeScratch>;

// Null where there is no memory: for use inside parallel_for, where nothing may throw.
inline Scratch try_scratch(int64_t bytes) noexcept {
  const auto rounded = static_cast<size_t>(round_up(bytes + 64, 64));
  return Scratch(static_cast<std::byte*>(std::aligned_alloc(64, rounded)));
}

inline Scratch make_scratch(int64_t bytes) {
  Scratch scratch = try_scratch(bytes);
  if (!scratch) throw std::bad_alloc();
  return scratch;
}

}  // namespace jenga::cpu
