// Calls of every operator, on memory that nobody reads: what is asked of the driver is the result.
#pragma once

#include <cstdint>

#include "kernels/params.h"

namespace jenga::testing {

inline void* address(uintptr_t number) { return reinterpret_cast<void*>(number << 20); }

struct Shape {
  int64_t batch = 2, heads = 3, context = 200, video = 5000;
  int64_t tokens() const { return context + video; }
  int64_t carved() const { return round_up(context, kContextAlignment) + video; }
};

inline PrepareBlocksParams prepare_case(DataType dtype, int64_t head_dim, bool query_means = true, Shape shape = {}) {
  PrepareBlocksParams p{};
  const Strides strides{shape.heads * shape.tokens() * head_dim, head_dim, shape.heads * head_dim};
  p.q = {address(1), strides, dtype};
  p.k = {address(2), strides, dtype};
  p.v = {address(3), strides, dtype};
  p.token_index = static_cast<int32_t*>(address(4));
  p.context_bias = static_cast<float*>(address(5));
  p.k_carved = address(6);
  p.v_carved = address(7);
  p.q_means = query_means ? address(8) : nullptr;
  p.k_means = address(9);
  p.k_tail = address(10);
  p.v_tail = address(11);
  p.batch = shape.batch;
  p.heads = shape.heads;
  p.head_dim = head_dim;
  p.num_context = shape.context;
  p.num_video = shape.video;
  p.q_cell_size = 16;
  p.k_cell_size = 8;
  p.tail_block_size = 64;
  return p;
}

inline SelectBlocksParams select_case(DataType dtype, int64_t head_dim, int64_t video = 5000) {
  SelectBlocksParams p{};
  p.dtype = dtype;
  p.q_means = address(8);
  p.k_means = address(9);
  p.kv_block_index = static_cast<int32_t*>(address(12));
  p.kv_block_count = static_cast<int32_t*>(address(13));
  p.batch = 2;
  p.heads = 3;
  p.head_dim = head_dim;
  p.num_video = video;
  p.q_block_size = 128;
  p.kv_block_size = 64;
  p.q_cells = 8;
  p.k_cells = 8;
  p.max_kv = ceil_div(video, 64);
  p.min_blocks = 4;
  p.softmax_scale = 0.125f;
  return p;
}

inline BlockSparseAttentionParams attention_case(DataType dtype, int64_t head_dim, bool tail = true, Shape shape = {}) {
  BlockSparseAttentionParams p{};
  const auto rows_of = [&](uintptr_t number, int64_t rows) {
    return Operand{address(number), {shape.heads * rows * head_dim, rows * head_dim, head_dim}, dtype};
  };
  const Strides strides{shape.heads * shape.tokens() * head_dim, head_dim, shape.heads * head_dim};
  p.q = {address(1), strides, dtype};
  p.k_carved = rows_of(6, shape.carved());
  p.v_carved = rows_of(7, shape.carved());
  if (tail) {
    p.k_tail = rows_of(10, ceil_div(shape.video, 64));
    p.v_tail = rows_of(11, ceil_div(shape.video, 64));
  }
  p.kv_block_index = static_cast<int32_t*>(address(12));
  p.kv_block_count = static_cast<int32_t*>(address(13));
  p.token_index = static_cast<int32_t*>(address(4));
  p.context_bias = static_cast<float*>(address(5));
  p.out = {address(14), strides, dtype};
  p.lse = static_cast<float*>(address(15));
  p.batch = shape.batch;
  p.heads = shape.heads;
  p.head_dim = head_dim;
  p.num_context = shape.context;
  p.num_video = shape.video;
  p.max_kv = 20;
  p.q_block_size = 128;
  p.kv_block_size = 64;
  p.tail_block_size = tail ? 64 : 0;
  p.softmax_scale = 0.125f;
  return p;
}

// The same with int8 keys.
inline BlockSparseAttentionParams int8_attention_case(DataType dtype, int64_t head_dim, bool tail = true,
                                                      Shape shape = {}) {
  BlockSparseAttentionParams p = attention_case(dtype, head_dim, tail, shape);
  p.k_carved.dtype = DataType::kInt8;
  p.k_carved.scale = static_cast<float*>(address(22));
  if (tail) {
    p.k_tail.dtype = DataType::kInt8;
    p.k_tail.scale = static_cast<float*>(address(23));
  }
  p.k_center = static_cast<float*>(address(24));
  return p;
}

// The same with e4m3 values too.
inline BlockSparseAttentionParams fp8_attention_case(DataType dtype, int64_t head_dim, bool tail = true,
                                                     Shape shape = {}) {
  BlockSparseAttentionParams p = int8_attention_case(dtype, head_dim, tail, shape);
  p.v_carved.dtype = DataType::kFloat8;
  p.v_carved.scale = static_cast<float*>(address(25));
  if (tail) {
    p.v_tail.dtype = DataType::kFloat8;
    p.v_tail.scale = static_cast<float*>(address(25));
  }
  p.v_center = static_cast<float*>(address(26));
  return p;
}

inline PackResidualParams pack_case(DataType dtype, int64_t head_dim, int32_t bits = 8, Shape shape = {}) {
  PackResidualParams p{};
  const Strides strides{shape.heads * shape.tokens() * head_dim, head_dim, shape.heads * head_dim};
  p.dense = {address(14), strides, dtype};
  p.carved = {address(16), strides, dtype};
  p.packed = address(17);
  p.scale = static_cast<float*>(address(18));
  p.batch = shape.batch;
  p.heads = shape.heads;
  p.tokens = shape.tokens();
  p.head_dim = head_dim;
  p.bits = bits;
  return p;
}

inline TailBiasParams tail_case(DataType dtype, int64_t head_dim, Shape shape = {}) {
  TailBiasParams p{};
  p.dtype = dtype;
  p.q_means = address(9);
  p.k_means = address(10);
  p.tail_bias = static_cast<float*>(address(11));
  p.batch = shape.batch;
  p.heads = shape.heads;
  p.head_dim = head_dim;
  p.num_q_cells = ceil_div(shape.video, 16);
  p.num_video = shape.video;
  p.k_cell_size = 8;
  p.tail_block_size = 64;
  p.softmax_scale = 0.125f;
  return p;
}

inline KeptShareParams kept_case(Shape shape = {}) {
  KeptShareParams p{};
  p.kv_block_index = static_cast<int32_t*>(address(12));
  p.kv_block_count = static_cast<int32_t*>(address(13));
  p.kept_share = static_cast<float*>(address(19));
  p.batch = shape.batch;
  p.heads = shape.heads;
  p.num_video = shape.video;
  p.max_kv = 20;
  p.kv_block_size = 64;
  return p;
}

}  // namespace jenga::testing
