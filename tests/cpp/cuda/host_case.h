// An attention case in memory of the host, in 16 bits, from which device memory is made.
#pragma once

#include "tests/cpp/cuda/attention_case.h"

namespace jenga::testing {

// A kernel that runs on the host finds a vector where it is.
struct OnHost {
  template <class Value>
  const Value* operator()(const std::vector<Value>& values) const {
    return values.empty() ? nullptr : values.data();
  }
};

struct HostCase {
  const AttentionCase& shape;
  AttentionData data;
  std::vector<uint16_t> q, k, v, k_tail, v_tail;

  explicit HostCase(const AttentionCase& which)
      : shape(which),
        data(which, 1),
        q(encoded(which.dtype, data.q)),
        k(encoded(which.dtype, data.k_carved)),
        v(encoded(which.dtype, data.v_carved)),
        k_tail(encoded(which.dtype, data.k_tail)),
        v_tail(encoded(which.dtype, data.v_tail)) {}

  // All but the outputs. place(vector): where a kernel finds what that vector has; null for an empty one.
  template <class Place>
  BlockSparseAttentionParams params(Place&& place) const {
    BlockSparseAttentionParams p = data.sizes();
    p.q = rows_of(place(q), shape.tokens(), shape.dtype);
    p.k_carved = rows_of(place(k), shape.carved_rows(), shape.dtype);
    p.v_carved = rows_of(place(v), shape.carved_rows(), shape.dtype);
    if (shape.tail_cells() > 0) {
      p.k_tail = rows_of(place(k_tail), shape.tail_cells(), shape.dtype);
      p.v_tail = rows_of(place(v_tail), shape.tail_cells(), shape.dtype);
    }
    p.kv_block_index = place(data.index);
    p.kv_block_count = place(data.count);
    p.token_index = place(data.token_index);
    p.context_bias = place(data.context_bias);
    p.tail_bias = place(data.tail_bias);
    p.residual = place(data.residual_bytes);
    p.residual_scale = place(data.residual_scale);
    return p;
  }

 protected:
  Operand rows_of(const void* memory, int64_t number, DataType dtype, const float* scale = nullptr) const {
    return {memory, contiguous(shape, number), dtype, scale};
  }
};

}  // namespace jenga::testing
