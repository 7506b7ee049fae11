// The instructions of kernels/cuda/sm80/mma.h by what the PTX manual says of them, for fibers (block.h). Copies arrive
// at once, so that a kernel that does not wait for them is not found out; what it reads where is.
#pragma once

#include <cstdlib>
#include <type_traits>

#include "tests/cpp/cuda/emulated/block.h"

namespace jenga::cuda::sm80 {

alignas(1024) inline uint8_t dynamic_shared[1 << 18];

inline unsigned read_thread_index() { return emulated::thread_index.x; }

inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const uint8_t*>(pointer) - dynamic_shared);
}

inline void copy_bytes(uint32_t target, const void* source, bool valid, int bytes) {
  if (target % bytes != 0 || (valid && reinterpret_cast<uintptr_t>(source) % bytes != 0)) std::abort();
  if (valid) {
    std::memcpy(dynamic_shared + target, source, bytes);
  } else {
    std::memset(dynamic_shared + target, 0, bytes);
  }
}
inline void copy_async(uint32_t target, const void* source, bool valid) { copy_bytes(target, source, valid, 16); }
inline void copy_async_word(uint32_t target, const void* source) { copy_bytes(target, source, true, 4); }
inline void commit_copies() {}
template <int kPending>
void wait_copies() {}

inline void load_matrices(uint32_t (&fragment)[4], uint32_t address, bool transposed) {
  emulated::Block& block = emulated::block();
  block.leave(address);
  block.sync_warp();
  const int lane = emulated::thread_index.x % 32;
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t pair[2];
    for (int e = 0; e < 2; ++e) {
      const int row = transposed ? lane % 4 * 2 + e : lane / 4, column = transposed ? lane / 4 : lane % 4 * 2 + e;
      const auto start = block.left_by<uint32_t>(block.first_of_warp() + 8 * matrix + row);
      std::memcpy(&pair[e], dynamic_shared + start + 2 * column, 2);
    }
    fragment[matrix] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
  }
  block.sync_warp();
}
inline void load_matrices(uint32_t (&fragment)[4], uint32_t address) { load_matrices(fragment, address, false); }
inline void load_matrices_transposed(uint32_t (&fragment)[4], uint32_t address) {
  load_matrices(fragment, address, true);
}

// add(c index, word of a, word of b) for the words whose elements meet, those of 32 bytes of a row.
template <class Add>
void for_words(const uint32_t* a, uint32_t b0, uint32_t b1, Add add) {
  struct Fragments {
    uint32_t a[4], b[2];
  };
  emulated::Block& block = emulated::block();
  block.leave(Fragments{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  block.sync_warp();
  const int lane = emulated::thread_index.x % 32;
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4, column = lane % 4 * 2 + e % 2;
    for (int quarter = 0; quarter < 4; ++quarter) {
      const auto of_a = block.left_by<Fragments>(block.first_of_warp() + row * 4 + quarter);
      const auto of_b = block.left_by<Fragments>(block.first_of_warp() + column * 4 + quarter);
      for (int half = 0; half < 2; ++half) add(e, of_a.a[e / 2 + 2 * half], of_b.b[half]);
    }
  }
  block.sync_warp();
}

template <class T>
float element(uint32_t word, int i) {
  const auto bits = static_cast<uint16_t>(word >> 16 * i);
  T value;
  std::memcpy(&value, &bits, 2);
  return static_cast<float>(value);
}

template <class T>
void multiply_add(float* c, const uint32_t* a, uint32_t b0, uint32_t b1) {
  for_words(a, b0, b1, [&](int e, uint32_t x, uint32_t y) {
    for (int i = 0; i < 2; ++i) c[e] += element<T>(x, i) * element<T>(y, i);
  });
}
inline void multiply_add_int8(int32_t* c, const uint32_t* a, uint32_t b0, uint32_t b1) {
  for_words(a, b0, b1, [&](int e, uint32_t x, uint32_t y) {
    for (int i = 0; i < 4; ++i) c[e] += static_cast<int8_t>(x >> 8 * i) * static_cast<int8_t>(y >> 8 * i);
  });
}

}  // namespace jenga::cuda::sm80
