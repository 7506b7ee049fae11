// What of kernels/cuda/sm90/wgmma.h the 8-bit kernels take: descriptors, and waits, of which there is no need here
// since products are done at once.
#pragma once

#include "kernels/cuda/sm90/panels.h"
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/mbarrier.h"

namespace jenga::cuda::sm90 {

inline uint64_t descriptor_of(const void* shared, uint32_t group_bytes, uint64_t mode) {
  return (shared_address(shared) & 0x3FFFF) >> 4 | uint64_t{group_bytes >> 4} << 32 | mode << 62;
}
inline uint64_t panel_descriptor(const void* shared, uint32_t) { return descriptor_of(shared, 8 * kPanelRowBytes, 1); }
constexpr uint64_t descriptor_step(uint32_t bytes) { return bytes >> 4; }
inline void wgmma_fence() {}
inline void wgmma_commit() {}
template <int kPending>
void wgmma_wait() {}
template <class Value, int kCount>
void pin_registers(Value (&)[kCount]) {}

}  // namespace jenga::cuda::sm90
