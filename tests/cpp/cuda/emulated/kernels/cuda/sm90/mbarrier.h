// The barriers of kernels/cuda/sm90/mbarrier.h by what the PTX manual says of them, for fibers (block.h), and the
// shared memory that they and everything else lie in. A thread that arrives too often ends the process.
// Copies of the copy engine arrive when nobody can go on without, one after the other: who does not wait reads what was
// there.
#pragma once

#include <deque>

#include "tests/cpp/cuda/emulated/block.h"

namespace jenga::cuda::sm90 {

alignas(1024) inline uint8_t shared_memory[1 << 18];

inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const uint8_t*>(pointer) - shared_memory);
}

using Barrier = uint64_t;

struct BarrierState {
  int16_t arrivals, missing;  // of a phase, of this phase
  int32_t bytes : 31;         // announced and not here yet
  uint32_t phase : 1;

  void check() {
    if (missing < 0) std::abort();
    if (missing > 0 || bytes != 0) return;
    missing = arrivals;
    phase ^= 1;
  }
};
static_assert(sizeof(BarrierState) == sizeof(Barrier));
inline BarrierState& state_of(Barrier* barrier) { return *reinterpret_cast<BarrierState*>(barrier); }

inline void barrier_init(Barrier* barrier, uint32_t arrivals) {
  state_of(barrier) = {static_cast<int16_t>(arrivals), static_cast<int16_t>(arrivals), 0, 0};
}
inline void barrier_init_fence() {}
inline void barrier_arrive(Barrier* barrier) {
  --state_of(barrier).missing;
  state_of(barrier).check();
}
inline void barrier_arrive_expect_bytes(Barrier* barrier, uint32_t bytes) {
  state_of(barrier).bytes += bytes;
  barrier_arrive(barrier);
}
inline void barrier_receive(Barrier* barrier, uint32_t bytes) {
  state_of(barrier).bytes -= bytes;
  state_of(barrier).check();
}
inline std::deque<std::function<void()>> copies_under_way;
inline void barrier_wait(Barrier* barrier, uint32_t parity) {
  emulated::block().wait_until([&] {
    if (state_of(barrier).phase != parity) return true;
    if (!copies_under_way.empty() && emulated::block().is_stuck()) {
      copies_under_way.front()();
      copies_under_way.pop_front();
    }
    return false;
  });
}

inline void named_barrier_sync(int barrier, int threads) { emulated::block().sync_named(barrier, threads); }
inline void named_barrier_arrive(int barrier, int threads) { emulated::block().arrive_named(barrier, threads); }

}  // namespace jenga::cuda::sm90
