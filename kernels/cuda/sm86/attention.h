// Host side of the attention kernels with the tiles of sm86/shape.h: what the rows of kernels/cuda/dispatch.cpp are
// made of. Which calls they take, and the workspace: sm80/attention.h.
#pragma once

#include "kernels/cuda/sm80/attention.h"

namespace jenga::cuda::sm86 {

// The generations of cards with 100 KB of shared memory a multiprocessor.
inline bool runs_on(int capability) { return capability == 86 || capability == 89 || capability / 10 == 12; }

// For kHeadDim 128, 192 and 256.
template <int kHeadDim>
CUresult launch_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream);

}  // namespace jenga::cuda::sm86
