// Values to e4m3 codes in blocks of 64 rows (rule: kernels/params.h; layout: kernels/value_blocks.h).
#pragma once

#include "kernels/cuda/common/prepare_blocks.h"
#include "kernels/cuda/common/quantise.h"
#include "kernels/value_blocks.h"

namespace jenga::cuda {

// What the values of one head are written with.
struct ValueRule {
  const float *scale, *center;  // [D]
  uint8_t* codes;               // blocks
};

// 16 rows of a warp, loaded as prepare_blocks loads them: vectors[pass] is row pass * (32 / kLanes) + lane / kLanes,
// channels from lane % kLanes * 8 on. my_token: of row lane % 16, -1 where there is none, which gives codes 0.
// first_row: of the head; nothing is written from end on, the end of the last block. turned: 16 rows of shared memory
// for this warp.
template <class T, int kLanes, int kPasses>
__device__ __forceinline__ void write_value_codes(const ValueRule& rule, const uint4 (&vectors)[kPasses], int my_token,
                                                  int64_t first_row, int64_t end, int head_dim, uint8_t* turned) {
  constexpr int kRowsPerPass = 32 / kLanes;
  const int lane = threadIdx.x % 32, channel = lane % kLanes * kVectorElements;
  float center[kVectorElements], inverse[kVectorElements];
#pragma unroll
  for (int i = 0; i < kVectorElements; ++i) {
    const float scale = channel < head_dim ? rule.scale[channel + i] : 0.f;
    center[i] = channel < head_dim ? rule.center[channel + i] : 0.f;
    inverse[i] = scale > 0.f ? 1.f / scale : 0.f;
  }
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    const int row = pass * kRowsPerPass + lane / kLanes;
    const bool is_token = __shfl_sync(0xFFFFFFFFu, my_token, row) >= 0;
    float values[kVectorElements];
    unpack_vector<T>(vectors[pass], values);
    uint32_t words[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i)
      words[i / 4] |= float8_code((values[i] - center[i]) * inverse[i]) << i % 4 * 8;
    if (channel >= head_dim) continue;
    *reinterpret_cast<uint2*>(turned + row * head_dim + channel) =
        is_token ? make_uint2(words[0], words[1]) : make_uint2(0, 0);
  }
  __syncwarp();
  if (first_row < end) {
    const uint32_t* const by_row = reinterpret_cast<const uint32_t*>(turned);
    for (int four = lane; four < head_dim / 4; four += 32) {
      uint32_t words[4][4] = {};  // of four channels, in the order of positions
#pragma unroll
      for (int position = 0; position < 16; ++position) {
        const uint32_t codes = by_row[key_at_position(position) * (head_dim / 4) + four];
#pragma unroll
        for (int i = 0; i < 4; ++i) words[i][position / 4] |= (codes >> 8 * i & 0xFFu) << position % 4 * 8;
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        *reinterpret_cast<uint4*>(rule.codes + value_offset(first_row, 4 * four + i, head_dim)) =
            make_uint4(words[i][0], words[i][1], words[i][2], words[i][3]);
      }
    }
  }
}

// Tail cells that begin in a tile of kPrepareRows rows from first_row on, out of the sums over kPieceRows rows each.
// Blocks are zeros before: a single cell's byte is what is written.
template <int kThreads>
__device__ __forceinline__ void write_tail_value_codes(const ValueRule& rule, int64_t cell_size, const float* sums,
                                                       int64_t first_row, int64_t num_rows, int head_dim) {
  const int pieces = static_cast<int>(cell_size) / kPieceRows;
  const int cells = kPrepareRows / static_cast<int>(cell_size);
  for (int i = threadIdx.x; i < cells * head_dim; i += kThreads) {
    const int cell = i / head_dim, channel = i % head_dim;
    const int64_t row = first_row + cell * cell_size;
    if (row >= num_rows) return;
    float sum = 0.f;
    for (int piece = cell * pieces; piece < (cell + 1) * pieces; ++piece) sum += sums[piece * head_dim + channel];
    const float count = static_cast<float>(num_rows - row < cell_size ? num_rows - row : cell_size);
    const float scale = rule.scale[channel], inverse = scale > 0.f ? 1.f / scale : 0.f;
    rule.codes[value_offset(row / cell_size, channel, head_dim)] =
        static_cast<uint8_t>(float8_code((sum / count - rule.center[channel]) * inverse));
  }
}

}  // namespace jenga::cuda
