#pragma once

namespace jenga::cuda::sm90 {

// Tells the compiler that all threads of a warp hold the same value, so that what depends on it stays in uniform
// registers, where the products want their descriptors.
__device__ __forceinline__ int warp_uniform(int value) { return __shfl_sync(0xFFFFFFFFu, value, 0); }

}  // namespace jenga::cuda::sm90
