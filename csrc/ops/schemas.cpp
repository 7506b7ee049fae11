// Every schema of torch.ops.jenga, once. Implementations register in cpu/ and cuda/ (operator.h).
// Symbols: B batch, H heads, S tokens, D head dim, C context tokens, N video tokens, P = round_up(C, 128);
// kernels/params.h has the formulas and layouts.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(jenga, m) {
  m.def("curve_order(int t, int h, int w, str curve) -> Tensor");
  m.def("block_adjacency(int t, int h, int w, str curve, int block_size) -> Tensor");
  m.def(
      "prepare_blocks(Tensor q, Tensor k, Tensor v, Tensor token_index, int num_context, int q_cell_size, "
      "int k_cell_size, int tail_block_size, Tensor? context_bias=None) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  // The same with int8 keys: k_carved, v_carved, q_means, k_means, k_tail, v_tail, k_scale, k_tail_scale, k_center.
  m.def(
      "prepare_int8_blocks(Tensor q, Tensor k, Tensor v, Tensor token_index, int num_context, int q_cell_size, "
      "int k_cell_size, int tail_block_size, Tensor? context_bias=None) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  // The same with e4m3 values too, in blocks (kernels/value_blocks.h); behind those: v_scale, v_center.
  m.def(
      "prepare_fp8_blocks(Tensor q, Tensor k, Tensor v, Tensor token_index, int num_context, int q_cell_size, "
      "int k_cell_size, int tail_block_size, Tensor? context_bias=None) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "select_blocks(Tensor q_means, Tensor k_means, Tensor? adjacency, int num_video, int q_block_size, "
      "int kv_block_size, int q_cells, int k_cells, int min_blocks, float top_p, float softmax_scale) "
      "-> (Tensor, Tensor)");
  m.def(
      "tail_bias(Tensor q_means, Tensor k_means, int num_video, int k_cell_size, int tail_block_size, "
      "float softmax_scale) -> Tensor");
  m.def(
      "block_sparse_attention(Tensor q, Tensor k_carved, Tensor v_carved, Tensor kv_block_index, "
      "Tensor kv_block_count, Tensor token_index, int num_context, int q_block_size, int kv_block_size, "
      "float softmax_scale, Tensor? context_bias=None, Tensor? k_tail=None, Tensor? v_tail=None, "
      "int tail_block_size=0, Tensor? residual=None, Tensor? residual_scale=None, Tensor? k_scale=None, "
      "Tensor? k_tail_scale=None, Tensor? k_center=None, Tensor? v_scale=None, Tensor? v_center=None, "
      "Tensor? tail_bias=None) "
      "-> (Tensor, Tensor)");
  m.def("pack_residual(Tensor dense, Tensor carved, int bits) -> (Tensor, Tensor)");
  m.def("kept_share(Tensor kv_block_index, Tensor kv_block_count, int num_video, int kv_block_size) -> Tensor");
  m.def("cpu_isa() -> str");
}
