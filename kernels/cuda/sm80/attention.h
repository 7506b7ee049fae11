// Host side of the sm_80 attention kernels, which run on every GPU from compute capability 8.0 on: what the rows of
// kernels/cuda/dispatch.cpp are made of.
#pragma once

#include <cuda.h>

#include <cstddef>

#include "kernels/cuda/common/layout.h"

namespace jenga::cuda::sm80 {

inline bool runs_on(int capability) { return capability >= 80; }

// True for any head dim that is a multiple of 8 up to kHeadDim (the channels between are zeros) and what every
// attention kernel asks for.
template <int kHeadDim>
bool supports_attention(const BlockSparseAttentionParams& params) {
  return params.head_dim >= 8 && params.head_dim % 8 == 0 && params.head_dim <= kHeadDim && has_kernel_layout(params);
}

// The same with int8 keys.
template <int kHeadDim>
bool supports_int8_attention(const BlockSparseAttentionParams& params) {
  const bool scaled = params.k_carved.scale != nullptr && params.k_center != nullptr &&
                      (params.k_tail.data == nullptr || params.k_tail.scale != nullptr);
  return scaled && params.head_dim % 16 == 0 && supports_attention<kHeadDim>(params);
}

// The order of the tiles.
inline size_t attention_workspace(const BlockSparseAttentionParams& params) {
  return sizeof(int32_t) * params.batch * params.heads * ceil_div(params.num_video, kQueryBlockRows);
}

// For kHeadDim 32, 64, 96, 128, 192 and 256.
template <int kHeadDim>
CUresult launch_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream);

// For kHeadDim 64 and 128.
template <int kHeadDim>
CUresult launch_int8_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream);

}  // namespace jenga::cuda::sm80
