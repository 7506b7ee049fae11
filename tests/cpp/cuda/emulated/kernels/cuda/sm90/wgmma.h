// What of kernels/cuda/sm90/wgmma.h the kernels take that run here: descriptors, waits, and scores of queries in
// registers. A product is done when it is waited for and not before: what its operands hold then is what it takes.
#pragma once

#include "kernels/cuda/sm90/panels.h"
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/mbarrier.h"
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/swizzle.h"
#include "tests/cpp/cuda/emulated/under_way.h"

namespace jenga::cuda::sm90 {

inline uint64_t descriptor_of(const void* shared, uint32_t group_bytes, uint64_t mode) {
  return (shared_address(shared) & 0x3FFFF) >> 4 | uint64_t{group_bytes >> 4} << 32 | mode << 62;
}
inline uint64_t panel_descriptor(const void* shared, uint32_t) { return descriptor_of(shared, 8 * kPanelRowBytes, 1); }
constexpr uint64_t descriptor_step(uint32_t bytes) { return bytes >> 4; }
inline void wgmma_fence() {}

inline emulated::UnderWay products;
inline void issue_product(std::function<void()> product) { products.add(std::move(product)); }
inline void wgmma_commit() { products.commit(); }
template <int kPending>
void wgmma_wait() {
  products.finish_but(kPending);
}
template <class Value, int kCount>
void pin_registers(Value (&)[kCount]) {}

// The 32 bytes of row `row` that an operand in shared memory brings to a product.
inline void read_row(uint8_t (&bytes)[32], uint64_t descriptor, int row) {
  const uint32_t start = (descriptor & 0x3FFF) << 4, group = (descriptor >> 32 & 0x3FFF) << 4;
  const int width = descriptor >> 62 == 1 ? 128 : 64;
  for (int k = 0; k < 32; ++k) bytes[k] = shared_memory[swizzled(start + row / 8 * group + row % 8 * width + k, width)];
}

inline int row_of_warp(int i) { return threadIdx.x % 32 / 4 + 8 * i; }
inline int column(int j, int e) { return 8 * j + 2 * (threadIdx.x % 4) + e; }

// a: two words of each of two rows, 16 channels over four lanes.
template <class T>
void wgmma_scores(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  issue_product([&d, &a, b, accumulate] {
    struct Words {
      T channel[8];
    };
    Words mine;
    std::memcpy(&mine, a, sizeof mine);
    emulated::Block& block = emulated::block();
    block.leave(mine);
    block.sync_warp();
    float queries[2][16];
    for (int k = 0; k < 16; ++k) {
      const int thread = block.first_of_warp() + threadIdx.x % 32 / 4 * 4 + k % 8 / 2;
      for (int i = 0; i < 2; ++i)
        queries[i][k] = static_cast<float>(block.left_by<Words>(thread).channel[(2 * (k / 8) + i) * 2 + k % 2]);
    }
    block.sync_warp();
    for (int j = 0; j < 16; ++j) {
      for (int e = 0; e < 2; ++e) {
        uint8_t bytes[32];
        T keys[16];
        read_row(bytes, b, column(j, e));
        std::memcpy(keys, bytes, sizeof keys);
        for (int i = 0; i < 2; ++i) {
          float& sum = d[4 * j + 2 * i + e];
          if (!accumulate) sum = 0.f;
          for (int k = 0; k < 16; ++k) sum += queries[i][k] * static_cast<float>(keys[k]);
        }
      }
    }
  });
}

}  // namespace jenga::cuda::sm90
