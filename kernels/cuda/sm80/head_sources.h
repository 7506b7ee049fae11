// Where keys and values of the head of a tile lie. In shared memory: what copies would else work out for every unit, of
// the plan and the operands, in 64 bits.
#pragma once

#include "kernels/cuda/common/tile_walk.h"
#include "kernels/cuda/sm80/int8_shape.h"
#include "kernels/value_blocks.h"

namespace jenga::cuda::sm80 {

// Rows of one head, as 16-bit elements, of which int8 codes are half.
struct HeadRows {
  const uint16_t* first;
  int32_t stride;

  __device__ const uint16_t* row(int number) const { return first + int64_t{number} * stride; }
};

// [1]: of tail cells.
struct HeadSources {
  HeadRows keys[2], values[2];
  const float* key_scales[2];
};
static_assert(sizeof(HeadSources) == kSourceBytes);

__device__ __forceinline__ HeadRows head_rows(const Operand& rows, const QueryBlock& block, int element_bytes) {
  const Strides& strides = rows.strides;
  const auto* data = static_cast<const uint8_t*>(rows.data) +
                     (block.batch * strides.batch + block.head * strides.head) * element_bytes;
  return {reinterpret_cast<const uint16_t*>(data), static_cast<int32_t>(strides.token * element_bytes / 2)};
}

// Values in blocks (kernels/value_blocks.h), num_rows a head. Row 64 n is where block n begins.
__device__ __forceinline__ HeadRows head_blocks(const Operand& values, int64_t head, int64_t num_rows, int head_dim) {
  const auto* data = static_cast<const uint8_t*>(values.data) + head * round_up(num_rows, kValueBlockKeys) * head_dim;
  return {reinterpret_cast<const uint16_t*>(data), head_dim / 2};
}

// Shape: Int8Shape, or one that has its members.
template <class Shape>
__device__ __forceinline__ HeadSources find_sources(const TileWalk& walk, const QueryBlock& block) {
  const BlockSparseAttentionParams& p = walk.params;
  const int64_t head = block.batch * p.heads + block.head;
  const int64_t rows = walk.context_blocks * kContextAlignment + p.num_video, cells = walk.num_tail_cells;
  HeadSources sources;
  sources.keys[0] = head_rows(p.k_carved, block, 1);
  sources.keys[1] = head_rows(p.k_tail, block, 1);
  sources.key_scales[0] = p.k_carved.scale + head * scales_of_keys(rows);
  sources.key_scales[1] = p.k_tail.scale + head * scales_of_keys(cells);
  if constexpr (Shape::kValuesInBlocks) {
    sources.values[0] = head_blocks(p.v_carved, head, rows, Shape::kHeadDim);
    sources.values[1] = head_blocks(p.v_tail, head, cells, Shape::kHeadDim);
  } else {
    sources.values[0] = head_rows(p.v_carved, block, 2);
    sources.values[1] = head_rows(p.v_tail, block, 2);
  }
  return sources;
}

}  // namespace jenga::cuda::sm80
