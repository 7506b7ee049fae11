// Host side of the sm_90a attention kernels. kernels/cuda/dispatch.cu lists and chooses the instantiations.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/params.h"

namespace jenga::cuda::sm90 {

// True where the kernel can serve the call: bf16 or fp16, head dim 64 or 128, 128-row query blocks, key blocks of 64 or
// 128, a positive scale, at most 8192 tail cells, 16-byte aligned pointers and strides.
bool supports_attention(const BlockSparseAttentionParams& params);

size_t attention_workspace(const BlockSparseAttentionParams& params);

template <class T, int kHeadDim>
cudaError_t launch_attention(const BlockSparseAttentionParams& params, void* workspace, cudaStream_t stream);

}  // namespace jenga::cuda::sm90
