// The operators of the pipeline on the CPU: kernels/cpu does the work, on torch's threads.
#include "csrc/ops/block_sparse_attention.h"
#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/kept_share.h"
#include "csrc/ops/operator.h"
#include "csrc/ops/pack_residual.h"
#include "csrc/ops/prepare_blocks.h"
#include "csrc/ops/select_blocks.h"
#include "csrc/ops/tail_bias.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/kept_share.h"

namespace jenga::ops {
namespace {

void launch_prepare_blocks(const PrepareBlocksCall& call) {
  cpu::live_table().prepare_blocks(call.params, parallel_for);
}
void launch_prepare_int8_blocks(const PrepareInt8BlocksCall&) {
  fail(
      "prepare_int8_blocks: q must be on a CUDA device, got cpu; the CPU's kernels have no 8 bits, take the reference");
}
void launch_prepare_fp8_blocks(const PrepareFp8BlocksCall&) {
  fail("prepare_fp8_blocks: q must be on a CUDA device, got cpu; the CPU's kernels have no 8 bits, take the reference");
}
void launch_select_blocks(const SelectBlocksCall& call) { cpu::live_table().select_blocks(call.params, parallel_for); }
void launch_tail_bias(const TailBiasCall& call) { cpu::live_table().tail_bias(call.params, parallel_for); }
void launch_block_sparse_attention(const BlockSparseAttentionCall& call) {
  cpu::live_table().block_sparse_attention(call.params, parallel_for);
}
void launch_pack_residual(const PackResidualCall& call) { cpu::live_table().pack_residual(call.params, parallel_for); }
void launch_kept_share(const KeptShareCall& call) { cpu::kept_share(call.params); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CPU, m) {
  implement<make_prepare_blocks, launch_prepare_blocks>(m, "prepare_blocks");
  implement<make_prepare_int8_blocks, launch_prepare_int8_blocks>(m, "prepare_int8_blocks");
  implement<make_prepare_fp8_blocks, launch_prepare_fp8_blocks>(m, "prepare_fp8_blocks");
  implement<make_select_blocks, launch_select_blocks>(m, "select_blocks");
  implement<make_tail_bias, launch_tail_bias>(m, "tail_bias");
  implement<make_block_sparse_attention, launch_block_sparse_attention>(m, "block_sparse_attention");
  implement<make_pack_residual, launch_pack_residual>(m, "pack_residual");
  implement<make_kept_share, launch_kept_share>(m, "kept_share");
}

}  // namespace jenga::ops
