// What of kernels/cuda/sm90/wgmma.h the 8-bit kernels take: descriptors, and waits. A product is done when it is waited
// for and not before: what its operands hold then is what it takes.
#pragma once

#include <deque>

#include "kernels/cuda/sm90/panels.h"
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/mbarrier.h"

namespace jenga::cuda::sm90 {

inline uint64_t descriptor_of(const void* shared, uint32_t group_bytes, uint64_t mode) {
  return (shared_address(shared) & 0x3FFFF) >> 4 | uint64_t{group_bytes >> 4} << 32 | mode << 62;
}
inline uint64_t panel_descriptor(const void* shared, uint32_t) { return descriptor_of(shared, 8 * kPanelRowBytes, 1); }
constexpr uint64_t descriptor_step(uint32_t bytes) { return bytes >> 4; }
inline void wgmma_fence() {}

// Of every thread, by groups that were committed; the last one is open.
using Products = std::vector<std::function<void()>>;
inline std::deque<Products> products_under_way[1024];
inline std::deque<Products>& my_products() {
  std::deque<Products>& mine = products_under_way[threadIdx.x];
  if (mine.empty()) mine.emplace_back();
  return mine;
}
inline void issue_product(std::function<void()> product) { my_products().back().push_back(std::move(product)); }
inline void wgmma_commit() { my_products().emplace_back(); }
template <int kPending>
void wgmma_wait() {
  for (auto& mine = my_products(); mine.size() > kPending + 1; mine.pop_front())
    for (const auto& product : mine.front()) product();
}
template <class Value, int kCount>
void pin_registers(Value (&)[kCount]) {}

}  // namespace jenga::cuda::sm90
