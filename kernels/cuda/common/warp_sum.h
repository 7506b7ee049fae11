// Sums over the lanes of a warp.
#pragma once

#include <cstdint>

namespace jenga::cuda {

__device__ __forceinline__ uint64_t warp_sum(uint64_t value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, step);
  return value;
}

}  // namespace jenga::cuda
