// The instructions of compute capability 8.9 that attention is made of, beside those of 8.0 (sm80/mma.h). Tensor cores
// of 8.9 and 12.x have them; for 9.0 and 10.0 the assembler makes conversions and products in fp16 of them: as right,
// and no faster than 16 bits.
#pragma once

#include "kernels/cuda/sm80/mma.h"

namespace jenga::cuda::sm89 {

// c[4] += a[4] b over 32 keys of e4m3 codes, which lie in a and b as int8 codes do (sm80/mma.h).
__device__ __forceinline__ void multiply_add_fp8(float* c, const uint32_t* a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace jenga::cuda::sm89
