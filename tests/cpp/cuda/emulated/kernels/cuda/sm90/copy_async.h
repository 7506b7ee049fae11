// The copies of kernels/cuda/sm90/copy_async.h: a thread's own, which arrive when it waits for them and not before.
#pragma once

#include <deque>

#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/mbarrier.h"

namespace jenga::cuda::sm90 {

// Of every thread, by groups that were committed; the last one is open.
using Copies = std::vector<std::function<void()>>;
inline std::deque<Copies> copies_of_threads[1024];
inline std::deque<Copies>& my_copies() {
  std::deque<Copies>& mine = copies_of_threads[threadIdx.x];
  if (mine.empty()) mine.emplace_back();
  return mine;
}

inline void copy_bytes(void* shared, const void* global, bool valid, int bytes) {
  if (shared_address(shared) % bytes != 0 || (valid && reinterpret_cast<uintptr_t>(global) % bytes != 0)) std::abort();
  my_copies().back().push_back([=] {
    if (valid) {
      std::memcpy(shared, global, bytes);
    } else {
      std::memset(shared, 0, bytes);
    }
  });
}
inline void copy_async_16(void* shared, const void* global, bool valid) { copy_bytes(shared, global, valid, 16); }
inline void copy_async_word(void* shared, const void* global) { copy_bytes(shared, global, true, 4); }
inline void commit_copies() { my_copies().emplace_back(); }
inline constexpr int kTurnsOfACopy = 8;  // others are ahead then, if they do not wait for it
template <int kGroups>
void wait_for_copies_but() {
  emulated::block().let_others_run(kTurnsOfACopy);
  for (auto& mine = my_copies(); mine.size() > kGroups + 1; mine.pop_front())
    for (const auto& copy : mine.front()) copy();
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
