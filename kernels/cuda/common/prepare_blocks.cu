// prepare_blocks: k and v gathered into carved layout, means of q, k and v (formula and layout: kernels/params.h).
//
// One thread block takes 128 carved rows of one tensor of one head; a warp takes 16 of them, all loads in flight before
// the first use. Rows are written as they came and summed in fp32: eight of them over the lanes that hold the same
// channels, then the eights of a cell, in a fixed order. Heads run fastest over the grid: in token-major memory
// neighbours share pages.
//
// Keys in 8 bits are quantised on the way: their center is known before (sample_centers.cu), and the largest of the
// rows that share a scale is found over the warps that hold them. So are values, with scales that the sampled rows
// tell; in a head where a row turns out to be far larger they are found anew (scale_values.cu) and its values coded
// again.
//
// 16-byte loads: every row must start on a 16-byte boundary. bf16 and fp16.
#include "kernels/cuda/common/element.h"
#include "kernels/cuda/common/key_codes.h"
#include "kernels/cuda/common/prepare_blocks.h"
#include "kernels/cuda/common/tail_codes.h"
#include "kernels/cuda/common/value_codes.h"

namespace jenga::cuda {
namespace {

constexpr int kWarps = kPrepareThreads / 32;
constexpr int kRowsPerWarp = kPrepareRows / kWarps;
constexpr int kPieces = kPrepareRows / kPieceRows;
constexpr int kResident = 3;  // thread blocks of a multiprocessor that registers are for, in fp8
static_assert(kPrepareRows == kContextAlignment, "a tile is all context or all video");

enum { kQuery, kKey, kValue };
static_assert(kValue + 1 == kOperands);

// Means of `cell_size` rows out of the sums over 8: out[cell][channel] of cells that begin in this tile.
template <class T>
__device__ __forceinline__ void write_means(T* out, int64_t cell_size, const float* sums, int64_t first_row,
                                            int64_t num_rows, int head_dim) {
  const int pieces = static_cast<int>(cell_size) / kPieceRows;
  const int cells = kPrepareRows / static_cast<int>(cell_size);
  T* const first_out = out + first_row / kPrepareRows * cells * head_dim;
  for (int i = threadIdx.x; i < cells * head_dim / 2; i += kWarps * 32) {
    const int cell = 2 * i / head_dim, channel = 2 * i - cell * head_dim;
    const int64_t row = first_row + cell * cell_size;
    if (row >= num_rows) return;
    float2 sum = make_float2(0.f, 0.f);
    for (int piece = cell * pieces; piece < (cell + 1) * pieces; ++piece) {
      const float2 part = *reinterpret_cast<const float2*>(sums + piece * head_dim + channel);
      sum.x += part.x;
      sum.y += part.y;
    }
    const float count = static_cast<float>(num_rows - row < cell_size ? num_rows - row : cell_size);
    *reinterpret_cast<uint32_t*>(first_out + cell * head_dim + channel) = pack_pair<T>(sum.x / count, sum.y / count);
  }
}

// Where a thread block works.
struct Tile {
  int operand;
  int64_t batch;
  int head, tile;  // of kPrepareRows rows, those of the context first
};

// kInt8Keys, kFloat8Values: k_carved, v_carved and v_tail are 8-bit codes, and tail means of keys stay floats.
template <class T, int kLanes, bool kInt8Keys, bool kFloat8Values>
__device__ __forceinline__ void prepare_tile(const PrepareArguments& args, const Tile& place) {
  constexpr int kRowsPerPass = 32 / kLanes;
  constexpr int kPasses = kRowsPerWarp / kRowsPerPass;
  constexpr int kPiecesPerWarp = kRowsPerWarp / kPieceRows;
  // A piece is half of the passes, or where one pass has all rows of a warp half of the lanes.
  constexpr int kPassesPerPiece = kPasses >= kPiecesPerWarp ? kPasses / kPiecesPerWarp : 1;
  constexpr int kLanesPerPiece = kPasses >= kPiecesPerWarp ? 32 : 32 / kPiecesPerWarp;
  __shared__ __align__(16) float sums[kPieces * kLanes * kVectorElements];

  const PrepareBlocksParams& p = args.params;
  const auto [operand, batch, head, tile] = place;
  const int head_dim = static_cast<int>(kFloat8Values ? kFloat8HeadDim : p.head_dim);
  const int64_t batch_head = batch * static_cast<int>(p.heads) + head;
  const bool is_context = tile < args.context_tiles;
  if (operand == kQuery && is_context) return;

  const void* input = operand == kQuery ? p.q.data : operand == kKey ? p.k.data : p.v.data;
  const Strides& strides = operand == kQuery ? p.q.strides : operand == kKey ? p.k.strides : p.v.strides;
  void* output = operand == kQuery ? nullptr : operand == kKey ? p.k_carved : p.v_carved;
  const T* source = static_cast<const T*>(input) + batch * strides.batch + head * strides.head;

  // Rows of this tile among the context or the video; rows past num_rows are the gap or do not exist.
  const int64_t first_row = static_cast<int64_t>(is_context ? tile : tile - args.context_tiles) * kPrepareRows;
  const int64_t num_rows = is_context ? p.num_context : p.num_video;
  const int32_t* tokens = p.token_index + (is_context ? 0 : p.num_context);
  const int64_t carved_rows = static_cast<int64_t>(args.context_tiles) * kPrepareRows + p.num_video;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int channel = lane % kLanes * kVectorElements;
  const int first_in_tile = warp * kRowsPerWarp;
  const int64_t token_row = first_row + first_in_tile + lane % kRowsPerWarp;
  int32_t my_token = token_row < num_rows ? tokens[token_row] : -1;
  if (is_context && p.context_bias != nullptr) {  // a masked row is zeros, as the gap
    if (p.context_bias[batch * args.context_tiles * kPrepareRows + token_row] == -INFINITY) my_token = -1;
  }

  uint4 vectors[kPasses];
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    const int row = pass * kRowsPerPass + lane / kLanes;
    const int32_t token = __shfl_sync(0xFFFFFFFFu, my_token, row);
    vectors[pass] = make_uint4(0, 0, 0, 0);
    if (token >= 0 && channel < head_dim)
      vectors[pass] = load_streaming(source + static_cast<uint32_t>(token) * strides.token + channel);
  }

  if (!is_context) {
#pragma unroll
    for (int first = 0; first < kPasses; first += kPassesPerPiece) {
      float sum[kVectorElements] = {};
#pragma unroll
      for (int pass = first; pass < first + kPassesPerPiece; ++pass) {
        float values[kVectorElements];
        unpack_vector<T>(vectors[pass], values);
#pragma unroll
        for (int i = 0; i < kVectorElements; ++i) sum[i] += values[i];
      }
#pragma unroll
      for (int step = kLanes; step < kLanesPerPiece; step *= 2) {
#pragma unroll
        for (int i = 0; i < kVectorElements; ++i) sum[i] += __shfl_xor_sync(0xFFFFFFFFu, sum[i], step);
      }
      if (lane % kLanesPerPiece < kLanes && channel < head_dim) {
        const int piece = warp * kPiecesPerWarp + first / kPassesPerPiece + lane / kLanesPerPiece;
        float4* target = reinterpret_cast<float4*>(sums + piece * head_dim + channel);
        target[0] = make_float4(sum[0], sum[1], sum[2], sum[3]);
        target[1] = make_float4(sum[4], sum[5], sum[6], sum[7]);
      }
    }
  }

  if (kInt8Keys && operand == kKey) {
    const KeyRule rule{p.k_center + batch_head * head_dim, p.k_scale + batch_head * scales_of_keys(carved_rows),
                       static_cast<int8_t*>(output) + batch_head * carved_rows * head_dim};
    const int64_t first_carved = static_cast<int64_t>(tile) * kPrepareRows;
    write_key_codes<T, kLanes>(rule, vectors, my_token, first_carved, carved_rows, head_dim);
  } else if (kFloat8Values && operand == kValue) {
    if constexpr (kFloat8Values) {
      const int64_t end = round_up(carved_rows, kValueBlockKeys);
      const ValueRule rule{p.v_scale + batch_head * head_dim, p.v_center + batch_head * head_dim,
                           static_cast<uint8_t*>(output) + batch_head * end * head_dim};
      write_value_codes<T>(rule, vectors, my_token, static_cast<int64_t>(tile) * kPrepareRows, end,
                           args.is_beyond + batch_head);
    }
  } else if (output != nullptr) {
    T* target = static_cast<T*>(output) +
                (batch_head * carved_rows + static_cast<int64_t>(tile) * kPrepareRows + first_in_tile) * head_dim +
                channel;
    // Context tiles write their gap too: zeros.
    const int64_t rows_left = (is_context ? first_row + kPrepareRows : num_rows) - first_row - first_in_tile;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = pass * kRowsPerPass + lane / kLanes;
      if (row < rows_left && channel < head_dim) store_vector(target + row * head_dim, vectors[pass]);
    }
  }
  if (is_context) return;
  __syncthreads();

  const auto write = [&](void* out, int64_t cell_size) {
    if (out == nullptr) return;
    T* const means = static_cast<T*>(out) + batch_head * ceil_div(p.num_video, cell_size) * head_dim;
    write_means(means, cell_size, sums, first_row, num_rows, head_dim);
  };
  if (operand == kQuery) write(p.q_means, p.q_cell_size);
  if (operand == kKey) {
    write(p.k_means, p.k_cell_size);
    if constexpr (kInt8Keys) {
      if (p.k_tail == nullptr) return;
      float* const means = args.tail_means + batch_head * ceil_div(p.num_video, p.tail_block_size) * head_dim;
      const float* const center = p.k_center + batch_head * head_dim;
      each_tail_mean(p.tail_block_size, sums, first_row, num_rows, head_dim,
                     [&](int64_t cell, int channel, float mean) {  // codes when all that share a scale are there
                       means[cell * head_dim + channel] = mean - center[channel];
                     });
    } else {
      write(p.k_tail, p.tail_block_size);
    }
  }
  if (operand == kValue) {
    if constexpr (kFloat8Values) {
      if (p.v_tail == nullptr) return;
      const int64_t rows = round_up(ceil_div(p.num_video, p.tail_block_size), kValueBlockKeys);
      const ValueRule rule{p.v_scale + batch_head * head_dim, p.v_center + batch_head * head_dim,
                           static_cast<uint8_t*>(p.v_tail) + batch_head * rows * head_dim};
      each_tail_mean(p.tail_block_size, sums, first_row, num_rows, head_dim,
                     [&](int64_t cell, int channel, float mean) {  // blocks are zeros before: one byte is written
                       rule.codes[value_offset(cell, channel, head_dim)] = static_cast<uint8_t>(
                           float8_code((mean - rule.center[channel]) * inverse_of(rule.scale[channel])));
                     });
    } else {
      write(p.v_tail, p.tail_block_size);
    }
  }
}

template <class T, int kLanes, bool kInt8Keys = false, bool kFloat8Values = false>
__device__ __forceinline__ void prepare_blocks(const PrepareArguments& args) {
  const int heads = static_cast<int>(args.params.heads);
  uint32_t index = blockIdx.x;
  const int head = index % heads;
  index /= heads;
  const int operand = kOperands - args.operands + index % args.operands;
  index /= args.operands;
  prepare_tile<T, kLanes, kInt8Keys, kFloat8Values>(
      args, {operand, index / args.tiles, head, static_cast<int>(index % args.tiles)});
}

// kAgainBlocks thread blocks a head take its tiles in turn: where there is nothing to do, few are few to launch.
template <class T>
__device__ __forceinline__ void prepare_values_again(const PrepareArguments& args) {
  const int heads = static_cast<int>(args.params.heads), batch_head = blockIdx.x / kAgainBlocks;
  if (args.is_beyond[batch_head] == 0) return;
  for (int tile = blockIdx.x % kAgainBlocks; tile < args.tiles; tile += kAgainBlocks) {
    prepare_tile<T, 16, true, true>(args, {kValue, batch_head / heads, batch_head % heads, tile});
    __syncthreads();  // shared memory is free again
  }
}

}  // namespace

#define JENGA_DEFINE_PREPARE(lanes) \
  JENGA_DEFINE_KERNEL_PAIR(jenga_prepare_blocks_##lanes, PrepareArguments, (kPrepareThreads), prepare_blocks, lanes)
JENGA_DEFINE_PREPARE(2)
JENGA_DEFINE_PREPARE(4)
JENGA_DEFINE_PREPARE(8)
JENGA_DEFINE_PREPARE(16)
JENGA_DEFINE_PREPARE(32)

// Three resident thread blocks are too many for sixteen lanes: registers would be stored on 12.0.
#define JENGA_DEFINE_PREPARE_INT8(lanes)                                                                           \
  JENGA_DEFINE_KERNEL_PAIR(jenga_prepare_int8_blocks_##lanes, PrepareArguments, (kPrepareThreads), prepare_blocks, \
                           lanes, true)
JENGA_DEFINE_PREPARE_INT8(2)
JENGA_DEFINE_PREPARE_INT8(4)
JENGA_DEFINE_PREPARE_INT8(8)
JENGA_DEFINE_PREPARE_INT8(16)

JENGA_DEFINE_KERNEL_PAIR(jenga_prepare_fp8_blocks_16, PrepareArguments, (kPrepareThreads, kResident), prepare_blocks,
                         16, true, true)
JENGA_DEFINE_KERNEL_PAIR(jenga_prepare_values_again, PrepareArguments, (kPrepareThreads), prepare_values_again)

}  // namespace jenga::cuda
