// block_sparse_attention with int8 keys and e4m3 values for compute capability 8.9 and newer (formula:
// kernels/params.h): the walk and the scores of sm80/int8_attention_kernel.h, and the weights and values of fp8_tile.h.
#pragma once

#include "kernels/cuda/sm80/int8_attention_kernel.h"
#include "kernels/cuda/sm89/fp8_tile.h"

namespace jenga::cuda::sm89 {

template <class T>
__device__ __forceinline__ void attend_fp8(const sm80::AttentionArguments& args) {
  sm80::attend_codes<Fp8Shape, sm80::Int8Tile<T, Fp8Shape, Fp8Rest<T>>>(args);
}

}  // namespace jenga::cuda::sm89
