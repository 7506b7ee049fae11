// The six operators of kernels/params.h as naive loops in fp64: slow, short, and what every other kernel must match.
// Host only. Inputs are read in their dtype, every sum is fp64, outputs are rounded once to the dtype they have.
#pragma once

#include "kernels/params.h"

namespace jenga::reference {

void prepare_blocks(const PrepareBlocksParams& params);
void select_blocks(const SelectBlocksParams& params);
void tail_bias(const TailBiasParams& params);
// unit_keys: of the kernel that is compared; with e4m3 values alone.
void block_sparse_attention(const BlockSparseAttentionParams& params, int64_t unit_keys = 64);
void pack_residual(const PackResidualParams& params);
void kept_share(const KeptShareParams& params);

}  // namespace jenga::reference
