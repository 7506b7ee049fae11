// What the parts of a thread block share at its start: shared memory for panels, and registers, which those that copy
// give to those that multiply.
#pragma once

#include "kernels/cuda/sm90/mbarrier.h"
#include "kernels/cuda/sm90/panels.h"

namespace jenga::cuda::sm90 {

// Bytes from the start of dynamic shared memory, which the driver aligns for less, to where panels may start. A launch
// asks for kPanelAlignment bytes more than the storage has. The storage is not made here: behind a function that hands
// it out the compiler computes other addresses, and the attention kernels were measured with these.
__device__ __forceinline__ uint32_t panel_padding(const uint8_t* dynamic_shared) {
  return (kPanelAlignment - shared_address(dynamic_shared) % kPanelAlignment) % kPanelAlignment;
}

// All threads of a warpgroup: from here on each has kCount registers.
template <int kCount>
__device__ __forceinline__ void give_registers_back() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

}  // namespace jenga::cuda::sm90
