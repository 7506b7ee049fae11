// 8-bit warpgroup products: scores of int8 codes, sums of e4m3 values. Layout of accumulators and the calls around a
// product: wgmma.h.
//
// The 8-bit first operand in registers: of 32 keys, word 2 h + i of thread t of a quad is row i, keys 16 h + 4 t ..
// 16 h + 4 t + 3. Operands in shared memory have the multiplied dimension side by side, there is no transposed read.
#pragma once

#include <cstdint>

#include "kernels/cuda/sm90/wgmma.h"
#include "kernels/value_blocks.h"

namespace jenga::cuda::sm90 {

// Values of 64 keys: 64 bytes a channel, whose 16-byte chunk c sits at c ^ (channel / 2 % 4) (64-byte swizzle, mode 2),
// in memory that starts on a multiple of 512 bytes.
__device__ __forceinline__ uint64_t value_descriptor(const void* shared) {
  constexpr uint64_t kGroupBytes = 8 * kValueBlockKeys;
  return static_cast<uint64_t>((shared_address(shared) & 0x3FFFF) >> 4) | (uint64_t{1} << 16) |
         ((kGroupBytes >> 4) << 32) | (uint64_t{2} << 62);
}

// Keeps the compiler from moving uses of accumulators across a wait; costs no instruction.
template <int kCount>
__device__ __forceinline__ void pin_registers(int32_t (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(values[i])::"memory");
}

// clang-format off
#define JENGA_EACH4(c, d, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define JENGA_EACH16(c, d, i) JENGA_EACH4(c, d, i), JENGA_EACH4(c, d, i + 4), JENGA_EACH4(c, d, i + 8), JENGA_EACH4(c, d, i + 12)
#define JENGA_EACH64(c, d) JENGA_EACH16(c, d, 0), JENGA_EACH16(c, d, 16), JENGA_EACH16(c, d, 32), JENGA_EACH16(c, d, 48)
#define JENGA_REGISTERS64 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define JENGA_REGISTERS68 JENGA_REGISTERS64 ", %64, %65, %66, %67"

#define JENGA_QK(constraint, accumulate)                                                                          \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, " accumulate ", 0;\n"                           \
               "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 {" JENGA_REGISTERS64 "}, %64, %65, accumulate;\n}\n" \
               : JENGA_EACH64(constraint, d) : "l"(a), "l"(b))
#define JENGA_PV(constraint, accumulate)                                                                          \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, " accumulate ", 0;\n"                           \
               "wgmma.mma_async.sync.aligned.m64n136k32.f32.e4m3.e4m3 {" JENGA_REGISTERS68 "}, "                   \
               "{%68, %69, %70, %71}, %72, accumulate, 1, 1;\n}\n"                                                 \
               : JENGA_EACH64(constraint, d), JENGA_EACH4(constraint, d, 64)                                       \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

// Scores of 64 rows and 128 keys, over 32 channels. kFirst: d is not read.
template <bool kFirst>
__device__ __forceinline__ void wgmma_int8_scores(int32_t (&d)[64], uint64_t a, uint64_t b) {
  if constexpr (kFirst) JENGA_QK("=&r", "0");
  else JENGA_QK("+r", "1");
}

// Sums of 64 rows over 32 keys: 128 channels, and eight more behind them.
template <bool kFirst>
__device__ __forceinline__ void wgmma_fp8_outputs(float (&d)[68], const uint32_t* a, uint64_t b) {
  if constexpr (kFirst) JENGA_PV("=&f", "0");
  else JENGA_PV("+f", "1");
}

#undef JENGA_EACH4
#undef JENGA_EACH16
#undef JENGA_EACH64
#undef JENGA_REGISTERS64
#undef JENGA_REGISTERS68
#undef JENGA_QK
#undef JENGA_PV
// clang-format on

}  // namespace jenga::cuda::sm90
