// Entry points of the CUDA kernels: everything is queued on `stream`, nothing allocates, synchronises or throws.
// Pointers and strides of the parameter structs (kernels/params.h) are device memory; every launch may be captured in a
// CUDA graph. Returns CUDA_ERROR_NOT_SUPPORTED where no kernel fits (dtype fp32, head dim, device),
// CUDA_ERROR_MISALIGNED_ADDRESS where rows do not start on 16 bytes, else the launch error. JENGA_FORCE_SM=80 (or
// 86, 89, 90) chooses kernels as on a card of that compute capability (capability.h).
#pragma once

#include <cuda.h>

#include <cstddef>

#include "kernels/params.h"

namespace jenga::cuda {

// workspace: prepare_blocks_workspace(params) bytes of device memory, 16-byte aligned, contents irrelevant. It must
// stay untouched until the launch has finished. May be null when that size is 0.
size_t prepare_blocks_workspace(const PrepareBlocksParams& params);
CUresult prepare_blocks(const PrepareBlocksParams& params, void* workspace, CUstream stream);

// *most: the key blocks of one head that select_blocks takes on the current device.
CUresult most_selectable_blocks(int64_t* most);
// workspace: select_blocks_workspace(params) bytes, as above.
size_t select_blocks_workspace(const SelectBlocksParams& params);
CUresult select_blocks(const SelectBlocksParams& params, void* workspace, CUstream stream);

CUresult tail_bias(const TailBiasParams& params, CUstream stream);

// workspace: block_sparse_attention_workspace(params) bytes, as above.
size_t block_sparse_attention_workspace(const BlockSparseAttentionParams& params);
CUresult block_sparse_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream);

CUresult pack_residual(const PackResidualParams& params, CUstream stream);

CUresult kept_share(const KeptShareParams& params, CUstream stream);

}  // namespace jenga::cuda
