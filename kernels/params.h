// What every kernel of one operator takes: raw pointers, sizes, strides. No torch, no CUDA in this header.
//
// Carved layout. Context tokens (text, reference frames: everything that is not video) come first in raster order,
// then the video tokens in curve order. token_index[i] is the raster row of carved row i, 0 <= i < C + N.
// Keys and values leave a gap: carved key row of context token i is i, of video token r is P + r, where
// P = round_up(C, kContextAlignment), so that video blocks start on a whole tile. Rows C .. P-1 are zeros.
//
// Sizes: B batch, H heads, D head dim, S = C + N tokens, C context tokens, N video tokens,
// nq = ceil(N / q_block_size), nkv = ceil(N / kv_block_size), nc = ceil(N / tail_block_size).
// Blocks and cells are runs of video tokens in curve order; only the last one may be ragged. A query block is cut into
// q_cells query cells, a key block into k_cells key cells: q_cell_size = q_block_size / q_cells tokens,
// k_cell_size = kv_block_size / k_cells; nqc = ceil(N / q_cell_size), nkc = ceil(N / k_cell_size).
#pragma once

#include <cstdint>

namespace jenga {

inline constexpr int64_t kContextAlignment = 128;
inline constexpr int64_t kMaxHeadDim = 256;
inline constexpr int64_t kMaxInt8HeadDim = 128;  // of int8 keys
inline constexpr int64_t kFloat8HeadDim = 128;   // of e4m3 values on CUDA
inline constexpr int64_t kQueryBlockRows = 128;  // video query rows that share a list where a call says no other
inline constexpr int64_t kSampledRows = 16;      // of so many video rows one is looked at for centers
inline constexpr int64_t kSampledCells = 32;     // query cells of a head that tail_bias looks at
inline constexpr int64_t kKeyScaleRows = 64;     // carved rows of keys, or tail means, that share a scale
inline constexpr float kInt8Max = 127.f, kFloat8Max = 448.f;
inline constexpr float kSampledFloat8Max = 8.f;  // of sampled values: others may be 56 times as large

enum class DataType : int32_t { kFloat32, kBFloat16, kFloat16, kInt8, kFloat8 };  // kFloat8: e4m3
enum class ResidualType : int32_t { kNone, kFloat32, kBFloat16, kFloat16, kInt8, kInt4 };

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
constexpr int64_t scales_of_keys(int64_t rows) { return ceil_div(rows, kKeyScaleRows); }  // of so many rows or means

// Channels of a row that are rotated together: the largest power of two that divides them all, and no more than a row of
// int8 keys has in a kernel.
constexpr int64_t rotation_size(int64_t head_dim) {
  const int64_t power = head_dim & -head_dim;
  return power < kMaxInt8HeadDim ? power : kMaxInt8HeadDim;
}

// Strides in elements; the last dimension is contiguous. All 64-bit: inputs may span more than 2^31 elements.
struct Strides {
  int64_t batch = 0;
  int64_t head = 0;
  int64_t token = 0;
};

// A tensor that a kernel reads: rows of D channels, the last dimension contiguous. What is quantised stands for its
// codes times their scale; where `scale` is null the values stand for themselves. Which values share a scale is said
// where an operand may have one.
struct Operand {
  const void* data = nullptr;
  Strides strides;
  DataType dtype = DataType::kFloat32;
  const float* scale = nullptr;
};

// A tensor that a kernel writes, in the same layout.
struct Output {
  void* data = nullptr;
  Strides strides;
  DataType dtype = DataType::kFloat32;
};

// CPU kernels get their thread pool from the caller: body(begin, end, context) runs on disjoint ranges.
using ParallelBody = void (*)(int64_t begin, int64_t end, void* context);
using ParallelFor = void (*)(int64_t begin, int64_t end, int64_t grain, ParallelBody body, void* context);

// prepare_blocks: one pass over q, k, v (raster order) that writes k and v in carved layout and every mean that
// selection and compensation need. A null output is not computed. Context rows that context_bias masks (-inf) are
// written as zeros and never read, so that whatever a masked token holds, NaN included, stays out of the arithmetic.
//
// Keys in 8 bits, where k_scale is given: of every key and tail mean k_center is subtracted, which attention need not
// know but for lse, and the rest is rotated: H, of ones and minus ones, multiplies every n = rotation_size(D)
// neighbouring channels by the Hadamard matrix of that size, in Sylvester's order. r = H (k - k_center) / n is written
// as int8 codes round(r * (1 / scale)), scale = max|r| / 127 of the kKeyScaleRows carved rows, or tail means, that
// share it; a row that is no token has codes 0, and where no row is one the scale is 0. Attention rotates queries too:
// <H q, r> = <q, k - k_center>. Values in 8 bits, where v_scale is given: v_center is subtracted and the rest written
// as e4m3 codes of r * (1 / v_scale), one scale a channel: the larger of max|r| / 448 of all tokens and max|r| / 8 of
// sampled rows (by which it is known without a read of the others, unless one is 56 times as large). Centers are means
// of sampled rows: video rows 0, 16, 32 ... in curve order. Tail means are quantised before they are rounded to 16
// bits; means for select_blocks stay as they are. On CUDA e4m3 values, of carved rows and of tail cells, lie in blocks
// of 64 rows, [B, H, ceil(rows / 64), D, 64] (kernels/value_blocks.h): their kernels multiply them so.
struct PrepareBlocksParams {
  Operand q, k, v;                // [B, H, S, D] raster order, one dtype, which is that of all outputs but 8-bit ones
  const int32_t* token_index;     // [C + N]
  const float* context_bias;      // [B, P] as block_sparse_attention gets it, or null: nothing is masked
  void* k_carved;                 // [B, H, P + N, D] contiguous
  void* v_carved;                 // [B, H, P + N, D] contiguous; e4m3 on CUDA: blocks
  void* q_means;                  // [B, H, nqc, D] means of query cells
  void* k_means;                  // [B, H, nkc, D] means of key cells
  void* k_tail;                   // [B, H, nc, D] means of tail cells
  void* v_tail;                   // [B, H, nc, D]
  float* k_scale = nullptr;       // [B, H, scales_of_keys(P + N)]; the next two come too, k_carved and k_tail are int8
  float* k_tail_scale = nullptr;  // [B, H, scales_of_keys(nc)]
  float* k_center = nullptr;      // [B, H, D]
  float* v_scale = nullptr;       // [B, H, D]; with it comes the next one, and v_carved and v_tail are e4m3
  float* v_center = nullptr;      // [B, H, D]
  int64_t batch, heads, head_dim, num_context, num_video;
  int64_t q_cell_size, k_cell_size, tail_block_size;
};

// select_blocks: for every query block the key blocks to keep.
// Query cell a gives key cell c the mass n_c exp(softmax_scale <q_means[a], k_means[c]>) / z_a, n_c the tokens of c.
// z_a stands for what it gives to all keys, taken from coarse cells of up to four key cells of a block, which tell it
// as well: z_a = sum over coarse cells j of n_j exp(softmax_scale <q_means[a], m_j>), m_j the mean of the cells in it,
// each weighing its tokens, in dtype. A key block's mass for a query block sums over the cells of both, query cells
// weighing their tokens; p = that over the sum of all key blocks. Sorted by descending p, ties by ascending index: kept
// are the first max(min_blocks, 1 + #{prefixes whose mass <= top_p}) blocks, at most nkv, and every block that
// adjacency forces. A p below 2^-100 may count as 0.
struct SelectBlocksParams {
  DataType dtype;
  const void* q_means;       // [B, H, nqc, D] contiguous
  const void* k_means;       // [B, H, nkc, D] contiguous
  const uint8_t* adjacency;  // [nq, nkv] 0/1 or null
  int32_t* kv_block_index;   // [B, H, nq, max_kv] ascending; entries past the count are -1
  int32_t* kv_block_count;   // [B, H, nq]
  int64_t batch, heads, head_dim, num_video, max_kv;
  int64_t q_block_size, kv_block_size, q_cells, k_cells;
  int64_t min_blocks;
  float top_p;
  float softmax_scale;

  constexpr int64_t q_cell_size() const { return q_block_size / q_cells; }
  constexpr int64_t k_cell_size() const { return kv_block_size / k_cells; }
  constexpr int64_t num_q_blocks() const { return ceil_div(num_video, q_block_size); }
  constexpr int64_t num_kv_blocks() const { return ceil_div(num_video, kv_block_size); }
  constexpr int64_t num_q_cells() const { return ceil_div(num_video, q_cell_size()); }
  constexpr int64_t num_k_cells() const { return ceil_div(num_video, k_cell_size()); }
  // Tokens of the last cell: all others are whole.
  constexpr int64_t last_q_cell() const { return num_video - (num_q_cells() - 1) * q_cell_size(); }
  constexpr int64_t last_k_cell() const { return num_video - (num_k_cells() - 1) * k_cell_size(); }
  // Coarse cells, and the key cells in one.
  constexpr int64_t cells_per_coarse() const { return k_cells < 4 ? k_cells : 4; }
  constexpr int64_t coarse_size() const { return k_cell_size() * cells_per_coarse(); }
  constexpr int64_t num_coarse() const { return ceil_div(num_video, coarse_size()); }
  constexpr int64_t last_coarse() const { return num_video - (num_coarse() - 1) * coarse_size(); }
};

// tail_bias: the logarithm of how many keys a dropped tail cell counts as. Its n_c keys weigh more than n_c times their
// mean key, which the exponential makes too small wherever they differ (Jensen). How much more, the cells of selection
// tell: with s_i = softmax_scale <q_means[a], k_means[i]> of the key cells i in tail cell c, of n_i tokens each,
//   tail_bias[c] = mean over query cells a of log(sum_i n_i exp(s_i)) - (sum_i n_i s_i) / n_c,
// which is log(n_c) where the s_i are equal, and never below. Of the query cells of a head kSampledCells are looked at,
// cells sampled_cell(0), sampled_cell(1), ...; all of them where there are no more.
struct TailBiasParams {
  DataType dtype;
  const void* q_means;  // [B, H, nqc, D] contiguous
  const void* k_means;  // [B, H, nkc, D] contiguous
  float* tail_bias;     // [B, H, nc]
  int64_t batch, heads, head_dim, num_q_cells, num_video;
  int64_t k_cell_size, tail_block_size;  // the second is 2, 4 or 8 times the first
  float softmax_scale;

  constexpr int64_t num_k_cells() const { return ceil_div(num_video, k_cell_size); }
  constexpr int64_t num_tail_cells() const { return ceil_div(num_video, tail_block_size); }
  constexpr int64_t num_sampled() const { return num_q_cells < kSampledCells ? num_q_cells : kSampledCells; }
  constexpr int64_t sampled_cell(int64_t i) const { return i * num_q_cells / num_sampled(); }
};

// block_sparse_attention. Video query row: logits are softmax_scale * <q, k> over the context rows (plus
// context_bias), over the rows of the kept key blocks, and, where k_tail is given, one logit
// softmax_scale * <q, k_tail[c]> + tail_bias[c] with value v_tail[c] for every tail cell c whose key block was dropped.
// Context query row: all context rows with context_bias > -inf (its finite part is not added) and all video rows.
// Masked rows of k_carved and v_carved (context_bias -inf, and the gap) must be finite: prepare_blocks makes them
// zeros. One softmax over everything; a row with nothing to attend gives out = 0, lse = -inf.
//
// int8 keys (k_carved and k_tail, as prepare_blocks makes them): queries, H q, become int8 codes by the same rule with
// a scale a row, and <q, k> is the two scales times the sum over products of codes; lse adds softmax_scale * <q,
// k_center>. e4m3 values: weights are e4m3 codes. An e4m3 code is nearly a logarithm, so that of weight w is round(126
// + 8 log2(w)), and 0 where that is negative, w a share of the largest of its unit. Units: as many neighbours among the
// context, the rows of the listed blocks, or the tail cells as the kernel multiplies at a time, sm_90a's 128, others 64.
// The sum that divides weights is that of the rounded ones, and out adds v_center.
struct BlockSparseAttentionParams {
  Operand q;                      // [B, H, S, D] raster order
  Operand k_carved, v_carved;     // [B, H, P + N, D] carved layout; int8 keys: scale [B, H, scales_of_keys(P + N)]
  Operand k_tail, v_tail;         // [B, H, nc, D] contiguous; null: no tail; int8: scale [B, H, scales_of_keys(nc)]
  const int32_t* kv_block_index;  // [B, H, nq, max_kv] ascending video key blocks
  const int32_t* kv_block_count;  // [B, H, nq]
  const int32_t* token_index;     // [C + N]
  const float* context_bias;      // [B, P] natural-log bias, -inf = never attended (rows >= C must be -inf); null: 0
  const void* residual;           // raster [B, S, H, D] (int4: [B, S, H, D / 2]) contiguous or null; added to out
  const float* residual_scale;    // [B, S, H] for int8 and int4
  ResidualType residual_type;
  Output out;  // [B, H, S, D] raster order, dtype of q
  float* lse;  // [B, H, S] contiguous, raster order, natural log, covers the tail; without the residual
  int64_t batch, heads, head_dim, num_context, num_video, max_kv;
  int64_t q_block_size, kv_block_size, tail_block_size;
  float softmax_scale;
  const float* k_center = nullptr;   // [B, H, D] of int8 keys
  const float* v_center = nullptr;   // [B, H, D] of e4m3 values, whose scale is [B, H, D] too
  const float* tail_bias = nullptr;  // [B, H, nc]; null: log(n_c) of every cell
};

// pack_residual: residual = dense - carved per token and head, quantised symmetrically with one scale per token and
// head: scale = max|r| / qmax (qmax 127 or 7), code = clamp(round_half_even(r / scale), -qmax, qmax); an all-zero row
// has scale 0. int4: two codes a byte, even channel in the low nibble, two's complement.
struct PackResidualParams {
  Operand dense, carved;  // [B, H, S, D], one dtype
  void* packed;           // [B, S, H, D] int8 or [B, S, H, D / 2] uint8, contiguous
  float* scale;           // [B, S, H]
  int64_t batch, heads, tokens, head_dim;
  int32_t bits;  // 8 or 4
};

// kept_share: of all pairs of a video query row and a video key the share that lists keep, query blocks being of
// kQueryBlockRows rows: the sum over heads, query blocks i and key blocks j in the list of i of tokens(i) * tokens(j),
// over B * H * N * N. Lists ascend, so that the last entry says whether the last key block, which may be ragged, is
// kept. Summed in integers and rounded once.
struct KeptShareParams {
  const int32_t* kv_block_index;  // [B, H, nq, max_kv] ascending; entries past the count are not read
  const int32_t* kv_block_count;  // [B, H, nq]
  float* kept_share;
  int64_t batch, heads, num_video, max_kv;
  int64_t kv_block_size;

  constexpr int64_t num_q_blocks() const { return ceil_div(num_video, kQueryBlockRows); }
  constexpr int64_t num_kv_blocks() const { return ceil_div(num_video, kv_block_size); }
  constexpr int64_t num_lists() const { return batch * heads * num_q_blocks(); }
  // What the last blocks lack of a whole one.
  constexpr int64_t lacking_rows() const { return num_q_blocks() * kQueryBlockRows - num_video; }
  constexpr int64_t lacking_keys() const { return num_kv_blocks() * kv_block_size - num_video; }
  constexpr double all_pairs() const {
    return static_cast<double>(batch * heads) * static_cast<double>(num_video) * static_cast<double>(num_video);
  }
};

}  // namespace jenga
