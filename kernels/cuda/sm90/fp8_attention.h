// Host side of the sm_90a attention kernels with int8 keys and e4m3 values: what the rows of kernels/cuda/dispatch.cpp
// are made of. Workspace and devices: attention.h.
#pragma once

#include "kernels/cuda/sm90/attention.h"
#include "kernels/cuda/sm90/fp8_arguments.h"
#include "kernels/cuda/sm90/tensor_map.h"

namespace jenga::cuda::sm90 {

// True for head dim 128, at most 8192 tail cells, all scales and centers, and what every attention kernel asks for.
inline bool supports_fp8_attention(const BlockSparseAttentionParams& params) {
  return num_tail_cells(params) <= kMaxTailCells && has_fp8_layout(params);
}

// Int8 rows of one of k_carved and k_tail.
MapShape key_map(const BlockSparseAttentionParams& params, const Operand& keys, int64_t rows);
// E4m3 blocks (kernels/value_blocks.h) of so many rows of one of v_carved and v_tail, contiguous.
MapShape value_map(const BlockSparseAttentionParams& params, const Operand& values, int64_t rows);

CUresult launch_fp8_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream);

}  // namespace jenga::cuda::sm90
