// Eight 16-bit elements are one 16-byte access; arithmetic on them is fp32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/common/layout.h"

namespace jenga::cuda {

template <class T>
__device__ __forceinline__ float2 unpack_pair(uint32_t packed) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {  // the upper half of a float: an instruction each
    return make_float2(__int_as_float(static_cast<int>(packed << 16)),
                       __int_as_float(static_cast<int>(packed & 0xFFFF0000u)));
  } else {
    return __half22float2(reinterpret_cast<const __half2&>(packed));
  }
}

template <class T>
__device__ __forceinline__ uint32_t pack_pair(float low, float high) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  } else {
    const __half2 pair = __floats2half2_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  }
}

template <class T>
__device__ __forceinline__ void unpack_vector(const uint4& packed, float (&values)[kVectorElements]) {
  const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack_pair<T>(words[i]);
    values[2 * i] = pair.x;
    values[2 * i + 1] = pair.y;
  }
}

template <class T>
__device__ __forceinline__ uint4 pack_vector(const float (&values)[kVectorElements]) {
  return make_uint4(pack_pair<T>(values[0], values[1]), pack_pair<T>(values[2], values[3]),
                    pack_pair<T>(values[4], values[5]), pack_pair<T>(values[6], values[7]));
}

// Data that nothing reads again soon: first to leave the caches.
__device__ __forceinline__ uint4 load_streaming(const void* source) {
  return __ldcs(static_cast<const uint4*>(source));
}

// In one piece: what is assigned through a pointer may be stored word by word.
__device__ __forceinline__ void store_vector(void* target, const uint4& vector) {
#ifdef __CUDACC__
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(__cvta_generic_to_global(target)), "r"(vector.x), "r"(vector.y), "r"(vector.z), "r"(vector.w)
               : "memory");
#else  // the host, in tests
  *static_cast<uint4*>(target) = vector;
#endif
}

}  // namespace jenga::cuda
