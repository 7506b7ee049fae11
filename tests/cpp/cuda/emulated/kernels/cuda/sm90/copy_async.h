// The copies of kernels/cuda/sm90/copy_async.h, which arrive at once here.
#pragma once

#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/mbarrier.h"

namespace jenga::cuda::sm90 {

inline void copy_bytes(void* shared, const void* global, bool valid, int bytes) {
  if (shared_address(shared) % bytes != 0 || (valid && reinterpret_cast<uintptr_t>(global) % bytes != 0)) std::abort();
  if (valid) {
    std::memcpy(shared, global, bytes);
  } else {
    std::memset(shared, 0, bytes);
  }
}
inline void copy_async_16(void* shared, const void* global, bool valid) { copy_bytes(shared, global, valid, 16); }
inline void copy_async_word(void* shared, const void* global) { copy_bytes(shared, global, true, 4); }
inline void wait_for_copies() {}
inline void arrive_after_copies(Barrier* barrier) { barrier_arrive(barrier); }
inline void fence_async_proxy() {}

}  // namespace jenga::cuda::sm90
