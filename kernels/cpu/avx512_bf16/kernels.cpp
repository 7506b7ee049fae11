// The avx512_bf16 tier: bf16 through the native dot product, everything else as the avx512 tier.
#include "kernels/cpu/avx512/simd.h"
// simd.h comes first: the headers below are written in its terms.
#include "kernels/cpu/vector_math.h"
//
#include "kernels/cpu/attention.h"
#include "kernels/cpu/avx512_bf16/dot_math.h"
#include "kernels/cpu/pack_residual.h"
#include "kernels/cpu/prepare_blocks.h"
#include "kernels/cpu/select_blocks.h"
#include "kernels/cpu/tail_bias.h"
#include "kernels/cpu/tiers.h"

namespace jenga::cpu {
namespace {

void block_sparse_attention(const BlockSparseAttentionParams& params, ParallelFor parallel_for) {
  if (params.q.dtype == DataType::kBFloat16) {
    run_attention(params, parallel_for, {DotMath::kPerWord, pack_unit<DotMath>, attend_block<DotMath>});
  } else {
    fp32_attention(params, parallel_for);
  }
}

void select_blocks(const SelectBlocksParams& params, ParallelFor parallel_for) {
  if (params.dtype == DataType::kBFloat16) {
    run_selection(params, parallel_for,
                  {DotMath::kPerWord, pack_unit<DotMath>, pack_queries<DotMath>, block_masses<DotMath>});
  } else {
    fp32_selection(params, parallel_for);
  }
}

}  // namespace

const KernelTable avx512_bf16_table = {"avx512_bf16", avx512_bf16_supported,  prepare_blocks, select_blocks,
                                       tail_bias,     block_sparse_attention, pack_residual};

}  // namespace jenga::cpu
