// The copies of kernels/cuda/sm90/copy_async.h: a thread's own, which arrive when it waits for them and not before.
#pragma once

#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/mbarrier.h"
#include "tests/cpp/cuda/emulated/under_way.h"

namespace jenga::cuda::sm90 {

inline emulated::UnderWay own_copies;

inline void copy_bytes(void* shared, const void* global, bool valid, int bytes) {
  if (shared_address(shared) % bytes != 0 || (valid && reinterpret_cast<uintptr_t>(global) % bytes != 0)) std::abort();
  own_copies.add([=] {
    if (valid) {
      std::memcpy(shared, global, bytes);
    } else {
      std::memset(shared, 0, bytes);
    }
  });
}
inline void copy_async_16(void* shared, const void* global, bool valid) { copy_bytes(shared, global, valid, 16); }
inline void copy_async_word(void* shared, const void* global) { copy_bytes(shared, global, true, 4); }
inline void commit_copies() { own_copies.commit(); }
inline constexpr int kTurnsOfACopy = 8;  // others are ahead then, if they do not wait for it
template <int kGroups>
void wait_for_copies_but() {
  emulated::block().let_others_run(kTurnsOfACopy);
  own_copies.finish_but(kGroups);
}
inline void wait_for_copies() {
  commit_copies();
  wait_for_copies_but<0>();
}
inline void arrive_after_copies(Barrier* barrier) {
  wait_for_copies();
  barrier_arrive(barrier);
}
inline void fence_async_proxy() {}

}  // namespace jenga::cuda::sm90
