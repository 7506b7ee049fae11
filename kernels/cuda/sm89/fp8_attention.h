// Host side of the kernels with int8 keys and e4m3 values out of mma.sync: what the rows of kernels/cuda/dispatch.cpp
// are made of. Workspace: sm80/attention.h.
#pragma once

#include "kernels/cuda/sm80/attention.h"

namespace jenga::cuda::sm89 {

// Where tensor cores have e4m3 by mma.sync; and 9.0, for tests and for what sm90/ does not take.
inline bool runs_on(int capability) { return capability == 89 || capability == 90 || capability / 10 == 12; }

// True for head dim 128, all scales and centers, and what every attention kernel asks for.
inline bool supports_fp8_attention(const BlockSparseAttentionParams& params) { return has_fp8_layout(params); }

CUresult launch_fp8_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream);

}  // namespace jenga::cuda::sm89
