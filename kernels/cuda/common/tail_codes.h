// The tail of int8 keys: means about the center, quantised before they are rounded (rule: kernels/params.h).
#pragma once

#include "kernels/cuda/common/prepare_blocks.h"
#include "kernels/cuda/common/quantise.h"

namespace jenga::cuda {

// Tail cells that begin in a tile of kPrepareRows rows from first_row on, out of the sums over kPieceRows rows each; a
// warp takes a cell. codes, scales, center: of this head.
template <int kWarps>
__device__ __forceinline__ void write_tail_codes(int8_t* codes, float* scales, const float* center, int64_t cell_size,
                                                 const float* sums, int64_t first_row, int64_t num_rows, int head_dim) {
  constexpr int kPairs = kMaxInt8HeadDim / 64;  // of channels, per lane
  const int pieces = static_cast<int>(cell_size) / kPieceRows;
  const int cells = kPrepareRows / static_cast<int>(cell_size), lane = threadIdx.x % 32;
  for (int cell = threadIdx.x / 32; cell < cells; cell += kWarps) {
    const int64_t row = first_row + cell * cell_size;
    if (row >= num_rows) return;
    const float count = static_cast<float>(num_rows - row < cell_size ? num_rows - row : cell_size);
    float2 rest[kPairs];
    float top = 0.f;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int channel = 2 * (lane + 32 * i);
      rest[i] = make_float2(0.f, 0.f);
      if (channel >= head_dim) continue;
      for (int piece = cell * pieces; piece < (cell + 1) * pieces; ++piece) {
        const float2 part = *reinterpret_cast<const float2*>(sums + piece * head_dim + channel);
        rest[i].x += part.x;
        rest[i].y += part.y;
      }
      rest[i].x = rest[i].x / count - center[channel];
      rest[i].y = rest[i].y / count - center[channel + 1];
      top = fmaxf(top, fmaxf(fabsf(rest[i].x), fabsf(rest[i].y)));
    }
    top = largest_of_lanes<32>(top);
    const float scale = top / kInt8Max, inverse = scale > 0.f ? 1.f / scale : 0.f;
    const int64_t out = row / cell_size;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int channel = 2 * (lane + 32 * i);
      if (channel >= head_dim) continue;
      *reinterpret_cast<char2*>(codes + out * head_dim + channel) =
          make_char2(int8_code(rest[i].x * inverse), int8_code(rest[i].y * inverse));
    }
    if (lane == 0) scales[out] = scale;
  }
}

}  // namespace jenga::cuda
