// Where a thread stands in a ring of slots in shared memory, each with a full and an empty barrier.
#pragma once

#include <cstdint>

namespace jenga::cuda::sm90 {

// Of all uses of the ring in a thread block.
template <int kSlots>
struct RingPosition {
  int slot = 0;
  uint32_t full_parity = 0;
  // A slot's first use passes at once: a fresh barrier counts as having completed a phase of parity 1.
  __device__ uint32_t empty_parity() const { return full_parity ^ 1; }
  __device__ void advance() {
    if (++slot == kSlots) {
      slot = 0;
      full_parity ^= 1;
    }
  }
};

}  // namespace jenga::cuda::sm90
