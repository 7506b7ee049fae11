// Cache-line aligned memory, not cleared. For files without instruction-set flags only: functions here are weak
// symbols.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#ifdef _WIN32
#include <malloc.h>
#endif

#include "kernels/params.h"

namespace jenga::cpu {

#ifdef _WIN32  // its C library has no aligned_alloc
inline void* allocate_aligned(size_t alignment, size_t bytes) noexcept { return _aligned_malloc(bytes, alignment); }
inline void free_aligned(void* data) noexcept { _aligned_free(data); }
#else
inline void* allocate_aligned(size_t alignment, size_t bytes) noexcept { return std::aligned_alloc(alignment, bytes); }
inline void free_aligned(void* data) noexcept { std::free(data); }
#endif

struct FreeScratch {
  void operator()(void* data) const { free_aligned(data); }
};
using Scratch = std::unique_ptr<std::byte[], FreeScratch>;

// Null where there is no memory: for use inside parallel_for, where nothing may throw.
inline Scratch try_scratch(int64_t bytes) noexcept {
  const auto rounded = static_cast<size_t>(round_up(bytes + 64, 64));
  return Scratch(static_cast<std::byte*>(allocate_aligned(64, rounded)));
}

inline Scratch make_scratch(int64_t bytes) {
  Scratch scratch = try_scratch(bytes);
  if (!scratch) throw std::bad_alloc();
  return scratch;
}

}  // namespace jenga::cpu
