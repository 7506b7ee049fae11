// Warpgroup matrix products (wgmma): D[64, n] (+)= A[64, 16] * B[16, n], four warps together, fp32 accumulators.
// Accumulator of thread t = 32 w + l: d[4 j + 2 i + e] is row 16 w + l / 4 + 8 i, column 8 j + 2 (l % 4) + e.
// A from registers has the same shape, packed in pairs, so probabilities go from one product to the next in place.
//
// Operands in shared memory lie in panels of 64 channels: row r is 128 bytes, its 16-byte chunk c sits at c ^ (r % 8)
// (128-byte swizzle, the layout the copy engine writes), and panels start on multiples of kPanelAlignment.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/sm90/mbarrier.h"
#include "kernels/cuda/sm90/panels.h"

namespace jenga::cuda::sm90 {

// Matrix descriptor: address, leading and stride byte offset in units of 16 bytes, swizzle mode 1 (128 bytes) in bits
// 62 and 63. The stride offset is the distance of two groups of eight rows. The leading offset is the distance of two
// panels where channels run along n (values), and unused where they run along k (queries, keys).
__device__ __forceinline__ uint64_t panel_descriptor(const void* shared, uint32_t leading_bytes) {
  constexpr uint64_t kGroupBytes = 8 * kPanelRowBytes;
  return static_cast<uint64_t>((shared_address(shared) & 0x3FFFF) >> 4) |
         (static_cast<uint64_t>(leading_bytes >> 4) << 16) | ((kGroupBytes >> 4) << 32) | (uint64_t{1} << 62);
}

__device__ __forceinline__ constexpr uint64_t descriptor_step(uint32_t bytes) { return bytes >> 4; }

// Orders earlier register writes before the products that follow.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most `kPending` committed groups are in flight.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving uses of accumulators across a wait; costs no instruction.
template <int kCount>
__device__ __forceinline__ void pin_registers(float (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(values[i])::"memory");
}

// clang-format off
#define JENGA_ACC8(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define JENGA_ACC32(d, i) JENGA_ACC8(d, i), JENGA_ACC8(d, i + 8), JENGA_ACC8(d, i + 16), JENGA_ACC8(d, i + 24)
#define JENGA_REGISTERS64 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define JENGA_REGISTERS32 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"

#define JENGA_QK(type)                                                                                          \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %66, 0;\n"                                    \
               "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" JENGA_REGISTERS64                 \
               "}, %64, %65, accumulate, 1, 1, 0, 0;\n}\n"                                                        \
               : JENGA_ACC32(d, 0), JENGA_ACC32(d, 32) : "l"(a), "l"(b), "r"(accumulate))
// A from registers, b read transposed or not ("1", "0").
#define JENGA_FROM_REGISTERS(type, transposed, accumulate)                                                      \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %69, 0;\n"                                    \
               "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" JENGA_REGISTERS64                 \
               "}, {%64, %65, %66, %67}, %68, accumulate, 1, 1, " transposed ";\n}\n"                              \
               : JENGA_ACC32(d, 0), JENGA_ACC32(d, 32)                                                          \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))
#define JENGA_PV64(type)                                                                                        \
  asm volatile("{\n.reg .pred accumulate;\nsetp.eq.b32 accumulate, 0, 0;\n"                                       \
               "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" JENGA_REGISTERS32                  \
               "}, {%32, %33, %34, %35}, %36, accumulate, 1, 1, 1;\n}\n"                                                      \
               : JENGA_ACC32(d, 0) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

// Scores: both operands in shared memory, channels along k.
template <class T>
__device__ __forceinline__ void wgmma_scores(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) JENGA_QK("bf16");
  else JENGA_QK("f16");
}

// Scores: queries from registers.
template <class T>
__device__ __forceinline__ void wgmma_scores(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) JENGA_FROM_REGISTERS("bf16", "0", accumulate);
  else JENGA_FROM_REGISTERS("f16", "0", accumulate);
}

// Outputs: probabilities from registers, values with channels along n (the last 1 asks for the transposed read).
template <class T>
__device__ __forceinline__ void wgmma_outputs(float (&d)[64], const uint32_t* a, uint64_t b) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) JENGA_FROM_REGISTERS("bf16", "1", 1);
  else JENGA_FROM_REGISTERS("f16", "1", 1);
}
template <class T>
__device__ __forceinline__ void wgmma_outputs(float (&d)[32], const uint32_t* a, uint64_t b) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) JENGA_PV64("bf16");
  else JENGA_PV64("f16");
}

#undef JENGA_ACC8
#undef JENGA_ACC32
#undef JENGA_REGISTERS64
#undef JENGA_REGISTERS32
#undef JENGA_QK
#undef JENGA_FROM_REGISTERS
#undef JENGA_PV64
// clang-format on

}  // namespace jenga::cuda::sm90
