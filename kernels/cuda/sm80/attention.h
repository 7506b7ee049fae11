// Host side of the sm_80 attention kernels, which run on every GPU from compute capability 8.0 on.
// kernels/cuda/dispatch.cu lists and chooses the instantiations.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/params.h"

namespace jenga::cuda::sm80 {

// True where the kernel can serve the call: bf16 or fp16, any head dim that is a multiple of 8 up to 256, 128-row query
// blocks, key blocks of 64 or 128, a positive scale, 16-byte aligned pointers and strides.
bool supports_attention(const BlockSparseAttentionParams& params);

size_t attention_workspace(const BlockSparseAttentionParams& params);

// Instantiated for __nv_bfloat16 and __half, kHeadDim 32, 64, 96, 128, 192 and 256: the smallest that is at least
// params.head_dim serves it, the channels between are zeros.
template <class T, int kHeadDim>
cudaError_t launch_attention(const BlockSparseAttentionParams& params, void* workspace, cudaStream_t stream);

}  // namespace jenga::cuda::sm80
