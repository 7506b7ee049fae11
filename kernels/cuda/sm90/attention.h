// Host side of the sm_90a attention kernels: what the rows of kernels/cuda/dispatch.cpp are made of.
#pragma once

#include <cuda.h>

#include "kernels/cuda/common/layout.h"
#include "kernels/cuda/sm90/attention_arguments.h"
#include "kernels/cuda/sm90/tickets.h"

namespace jenga::cuda::sm90 {

// Machine code for 9.0a runs on no other generation.
inline bool runs_on(int capability) { return capability == 90; }

// True for a head dim of kHeadDim, at most 8192 tail cells, and what every attention kernel asks for.
template <int kHeadDim>
bool supports_attention(const BlockSparseAttentionParams& params) {
  return params.head_dim == kHeadDim && num_tail_cells(params) <= kMaxTailCells && has_kernel_layout(params);
}

// For kHeadDim 64 and 128.
template <int kHeadDim>
CUresult launch_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream);

}  // namespace jenga::cuda::sm90
