// prepare_blocks: checks, outputs and kernel parameters, the same for CPU and CUDA.
#pragma once

#include <optional>
#include <tuple>

#include "csrc/ops/convert.h"

namespace jenga::ops {

struct PrepareBlocksCall {
  PrepareBlocksParams params;
  Tensor q, k, v, token_index;  // keep alive what params points to
  std::optional<Tensor> context_bias;
  Tensor k_carved, v_carved, q_means, k_means, k_tail, v_tail;

  std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> outputs() const {
    return {k_carved, v_carved, q_means, k_means, k_tail, v_tail};
  }
};

struct PrepareInt8BlocksCall : PrepareBlocksCall {
  Tensor k_scale, k_tail_scale, k_center;

  std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> outputs() const {
    return {k_carved, v_carved, q_means, k_means, k_tail, v_tail, k_scale, k_tail_scale, k_center};
  }
};

struct PrepareFp8BlocksCall : PrepareInt8BlocksCall {
  Tensor v_scale, v_center;

  std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> outputs() const {
    return {k_carved, v_carved, q_means, k_means, k_tail, v_tail, k_scale, k_tail_scale, k_center, v_scale, v_center};
  }
};

// kOp is prepare_blocks or one of those in 8 bits.
inline PrepareBlocksCall prepare_blocks_of_type(const char* kOp, ScalarType key_type, const Tensor& q, const Tensor& k,
                                                const Tensor& v, const Tensor& token_index, int64_t num_context,
                                                int64_t q_cell_size, int64_t k_cell_size, int64_t tail_block_size,
                                                const std::optional<Tensor>& context_bias) {
  check_attention_tensor(kOp, "q", q);
  if (key_type == ScalarType::Char) check_int8_head_dim(kOp, "q", q.size(3));
  const int64_t batch = q.size(0), heads = q.size(1), tokens = q.size(2), head_dim = q.size(3);
  check_like(kOp, "k", k, "q", q, {batch, heads, tokens, head_dim});
  check_like(kOp, "v", v, "q", q, {batch, heads, tokens, head_dim});
  check_num_context(kOp, num_context, tokens);
  check_cell_size(kOp, "q_cell_size", q_cell_size);
  check_cell_size(kOp, "k_cell_size", k_cell_size);
  const bool known_tail =
      tail_block_size == 0 || tail_block_size == 32 || tail_block_size == 64 || tail_block_size == 128;
  JENGA_REQUIRE(known_tail, kOp, ": tail_block_size must be 0, 32, 64 or 128, got ", tail_block_size);
  check_token_index(kOp, token_index, q, tokens);
  check_context_bias(kOp, context_bias, q, num_context);

  const int64_t video = tokens - num_context;
  const int64_t carved_tokens = round_up(num_context, kContextAlignment) + video;
  const auto cells = [&](int64_t size) { return size ? ceil_div(video, size) : 0; };
  const ScalarType type = q.scalar_type();
  const auto means = [&](int64_t size, ScalarType of) {
    return new_tensor(q, {batch, heads, cells(size), head_dim}, of);
  };
  PrepareBlocksCall call{
      .params = {},
      .q = with_loadable_rows(q),
      .k = with_loadable_rows(k),
      .v = with_loadable_rows(v),
      .token_index = as_array(token_index),
      .context_bias = as_array(context_bias),
      .k_carved = new_tensor(q, {batch, heads, carved_tokens, head_dim}, key_type),
      .v_carved = new_tensor(q, {batch, heads, carved_tokens, head_dim}, type),
      .q_means = means(q_cell_size, type),
      .k_means = means(k_cell_size, type),
      .k_tail = means(tail_block_size, key_type),
      .v_tail = means(tail_block_size, type),
  };
  call.params = {
      .q = operand(call.q),
      .k = operand(call.k),
      .v = operand(call.v),
      .token_index = data<int32_t>(call.token_index),
      .context_bias = data_or_null<float>(call.context_bias),
      .k_carved = call.k_carved.mutable_data_ptr(),
      .v_carved = call.v_carved.mutable_data_ptr(),
      .q_means = q_cell_size ? call.q_means.mutable_data_ptr() : nullptr,
      .k_means = k_cell_size ? call.k_means.mutable_data_ptr() : nullptr,
      .k_tail = tail_block_size ? call.k_tail.mutable_data_ptr() : nullptr,
      .v_tail = tail_block_size ? call.v_tail.mutable_data_ptr() : nullptr,
      .batch = batch,
      .heads = heads,
      .head_dim = head_dim,
      .num_context = num_context,
      .num_video = video,
      .q_cell_size = q_cell_size,
      .k_cell_size = k_cell_size,
      .tail_block_size = tail_block_size,
  };
  return call;
}

inline PrepareBlocksCall make_prepare_blocks(const Tensor& q, const Tensor& k, const Tensor& v,
                                             const Tensor& token_index, int64_t num_context, int64_t q_cell_size,
                                             int64_t k_cell_size, int64_t tail_block_size,
                                             const std::optional<Tensor>& context_bias) {
  return prepare_blocks_of_type("prepare_blocks", q.scalar_type(), q, k, v, token_index, num_context, q_cell_size,
                                k_cell_size, tail_block_size, context_bias);
}

// kOp is prepare_int8_blocks or prepare_fp8_blocks.
inline PrepareInt8BlocksCall prepare_int8_keys(const char* kOp, const Tensor& q, const Tensor& k, const Tensor& v,
                                               const Tensor& token_index, int64_t num_context, int64_t q_cell_size,
                                               int64_t k_cell_size, int64_t tail_block_size,
                                               const std::optional<Tensor>& context_bias) {
  PrepareBlocksCall blocks = prepare_blocks_of_type(kOp, ScalarType::Char, q, k, v, token_index, num_context,
                                                    q_cell_size, k_cell_size, tail_block_size, context_bias);
  const auto scales = [&](int64_t number) { return new_tensor(q, {q.size(0), q.size(1), number}, ScalarType::Float); };
  PrepareInt8BlocksCall call{blocks, scales(scales_of_keys(blocks.k_carved.size(2))),
                             scales(scales_of_keys(blocks.k_tail.size(2))),
                             new_tensor(q, {q.size(0), q.size(1), q.size(3)}, ScalarType::Float)};
  call.params.k_scale = mutable_data<float>(call.k_scale);
  call.params.k_tail_scale = mutable_data<float>(call.k_tail_scale);
  call.params.k_center = mutable_data<float>(call.k_center);
  return call;
}

inline PrepareInt8BlocksCall make_prepare_int8_blocks(const Tensor& q, const Tensor& k, const Tensor& v,
                                                      const Tensor& token_index, int64_t num_context,
                                                      int64_t q_cell_size, int64_t k_cell_size, int64_t tail_block_size,
                                                      const std::optional<Tensor>& context_bias) {
  return prepare_int8_keys("prepare_int8_blocks", q, k, v, token_index, num_context, q_cell_size, k_cell_size,
                           tail_block_size, context_bias);
}

// Values in blocks (kernels/value_blocks.h) in the place of rows.
inline PrepareFp8BlocksCall make_prepare_fp8_blocks(const Tensor& q, const Tensor& k, const Tensor& v,
                                                    const Tensor& token_index, int64_t num_context, int64_t q_cell_size,
                                                    int64_t k_cell_size, int64_t tail_block_size,
                                                    const std::optional<Tensor>& context_bias) {
  constexpr const char* kOp = "prepare_fp8_blocks";
  const PrepareInt8BlocksCall keys = prepare_int8_keys(kOp, q, k, v, token_index, num_context, q_cell_size, k_cell_size,
                                                       tail_block_size, context_bias);
  check_fp8_head_dim(kOp, "q", q.size(3));
  const auto channels = [&] { return new_tensor(q, {q.size(0), q.size(1), q.size(3)}, ScalarType::Float); };
  PrepareFp8BlocksCall call{keys, channels(), channels()};
  call.v_carved = new_value_blocks(q, call.v_carved.size(2));
  call.v_tail = new_value_blocks(q, call.v_tail.size(2));
  call.params.v_carved = call.v_carved.mutable_data_ptr();
  if (tail_block_size) call.params.v_tail = call.v_tail.mutable_data_ptr();
  call.params.v_scale = mutable_data<float>(call.v_scale);
  call.params.v_center = mutable_data<float>(call.v_center);
  return call;
}

}  // namespace jenga::ops
