// Every member of the operators' parameters as numbers, to compare them: bytes between members mean nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/params.h"

namespace jenga::testing {

using Values = std::vector<int64_t>;

inline int64_t number(const void* pointer) { return static_cast<int64_t>(reinterpret_cast<intptr_t>(pointer)); }
inline int64_t number(int64_t value) { return value; }
inline int64_t number(int32_t value) { return value; }
inline int64_t number(float value) { return static_cast<int64_t>(value * 1e6); }
inline int64_t number(DataType type) { return static_cast<int64_t>(type); }
inline int64_t number(ResidualType type) { return static_cast<int64_t>(type); }

inline void append(Values& values, const Strides& s) { values.insert(values.end(), {s.batch, s.head, s.token}); }
inline void append(Values& values, const Operand& o) {
  values.insert(values.end(), {number(o.data), number(o.dtype), number(o.scale)});
  append(values, o.strides);
}
inline void append(Values& values, const Output& o) {
  values.insert(values.end(), {number(o.data), number(o.dtype)});
  append(values, o.strides);
}
template <class Value>
void append(Values& values, Value value) {
  values.push_back(number(value));
}

template <class... Members>
Values all_of(const Members&... members) {
  Values values;
  (append(values, members), ...);
  return values;
}

inline Values values_of(const PrepareBlocksParams& p) {
  return all_of(p.q, p.k, p.v, p.token_index, p.context_bias, p.k_carved, p.v_carved, p.q_means, p.k_means, p.k_tail,
                p.v_tail, p.k_scale, p.k_tail_scale, p.k_center, p.v_scale, p.v_center, p.batch, p.heads, p.head_dim,
                p.num_context, p.num_video, p.q_cell_size, p.k_cell_size, p.tail_block_size);
}

inline Values values_of(const SelectBlocksParams& p) {
  return all_of(p.dtype, p.q_means, p.k_means, p.adjacency, p.kv_block_index, p.kv_block_count, p.batch, p.heads,
                p.head_dim, p.num_video, p.max_kv, p.q_block_size, p.kv_block_size, p.q_cells, p.k_cells, p.min_blocks,
                p.top_p, p.softmax_scale);
}

inline Values values_of(const BlockSparseAttentionParams& p) {
  return all_of(p.q, p.k_carved, p.v_carved, p.kv_block_index, p.kv_block_count, p.token_index, p.context_bias,
                p.k_tail, p.v_tail, p.residual, p.residual_scale, p.residual_type, p.out, p.lse, p.batch, p.heads,
                p.head_dim, p.num_context, p.num_video, p.max_kv, p.q_block_size, p.kv_block_size, p.tail_block_size,
                p.softmax_scale, p.k_center, p.v_center);
}

inline Values values_of(const PackResidualParams& p) {
  return all_of(p.dense, p.carved, p.packed, p.scale, p.batch, p.heads, p.tokens, p.head_dim, p.bits);
}

}  // namespace jenga::testing
