// Where the copy engine and the products find a byte of swizzled shared memory: bits of its address are flipped by bits
// above them.
#pragma once

#include <cstdint>

namespace jenga::cuda::sm90 {

// width: of a row, 64 or 128 bytes.
inline uint32_t swizzled(uint32_t address, int width) {
  const uint32_t mask = width / 16 - 1;
  return address ^ ((address >> 7 & mask) << 4);
}

}  // namespace jenga::cuda::sm90
