// Work items spread over the caller's threads, with scratch memory for each thread. Nothing here throws inside
// parallel_for: a thread that gets no memory leaves the items to the others, and where no thread gets any, the caller
// of share() gets std::bad_alloc. For files without instruction-set flags only: templates here are weak symbols.
#pragma once

#include <atomic>
#include <new>

#include "kernels/cpu/scratch.h"
#include "kernels/params.h"

namespace jenga::cpu {

// Runs work(scratch, i) for every i < count; scratch: scratch_bytes, 64-byte aligned, not cleared. Threads take the
// next index from a counter, so that long items that come first are balanced by the short ones at the end, however the
// caller's pool cuts the range. `work` must not throw.
template <typename Work>
void share(ParallelFor parallel_for, int64_t count, int64_t scratch_bytes, Work work) {
  struct Shared {
    std::atomic<int64_t> next{0};
    int64_t count, scratch_bytes;
    Work& work;
  } shared{.count = count, .scratch_bytes = scratch_bytes, .work = work};
  if (count == 0) return;
  parallel_for(
      0, count, 1,
      [](int64_t, int64_t, void* context) {
        auto& s = *static_cast<Shared*>(context);
        if (s.next >= s.count) return;
        const Scratch scratch = try_scratch(s.scratch_bytes);
        if (!scratch) return;
        for (int64_t i = s.next++; i < s.count; i = s.next++) s.work(scratch.get(), i);
      },
      &shared);
  if (shared.next < count) throw std::bad_alloc();  // a thread with scratch would have taken every item
}

}  // namespace jenga::cpu
