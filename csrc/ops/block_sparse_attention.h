// block_sparse_attention: checks, outputs and kernel parameters, the same for CPU and CUDA.
// out has shape [B, H, S, D] over memory [B, S, H, D]: the host's next step is a projection of [B, S, H * D].
#pragma once

#include <optional>
#include <tuple>

#include "csrc/ops/convert.h"

namespace jenga::ops {

struct BlockSparseAttentionCall {
  BlockSparseAttentionParams params;
  Tensor q, k_carved, v_carved, kv_block_index, kv_block_count, token_index;  // keep alive what params points to
  std::optional<Tensor> context_bias, k_tail, v_tail, residual, residual_scale, k_scale, k_tail_scale, k_center,
      v_scale, v_center, tail_bias;
  Tensor out, lse;

  std::tuple<Tensor, Tensor> outputs() const { return {out, lse}; }
  void point_params_at_tensors();
};

inline void BlockSparseAttentionCall::point_params_at_tensors() {
  params.q = operand(q);
  params.k_carved = operand(k_carved);
  params.v_carved = operand(v_carved);
  params.k_tail = operand(k_tail);
  params.v_tail = operand(v_tail);
  params.k_carved.scale = data_or_null<float>(k_scale);
  params.k_tail.scale = data_or_null<float>(k_tail_scale);
  params.k_center = data_or_null<float>(k_center);
  params.v_carved.scale = params.v_tail.scale = data_or_null<float>(v_scale);
  params.v_center = data_or_null<float>(v_center);
  params.tail_bias = data_or_null<float>(tail_bias);
  params.kv_block_index = data<int32_t>(kv_block_index);
  params.kv_block_count = data<int32_t>(kv_block_count);
  params.token_index = data<int32_t>(token_index);
  params.context_bias = data_or_null<float>(context_bias);
  params.residual = data_or_null<void>(residual);
  params.residual_scale = data_or_null<float>(residual_scale);
  params.out = {out.mutable_data_ptr(), strides_of(out), data_type(out.scalar_type())};
  params.lse = mutable_data<float>(lse);
}

namespace attention_checks {

inline constexpr const char* kOp = "block_sparse_attention";

inline void check_lists(const Tensor& q, const Tensor& index, const Tensor& count, int64_t num_q, int64_t num_kv) {
  check_device(kOp, "kv_block_index", index, "q", q);
  check_list_index(kOp, index);
  check_device(kOp, "kv_block_count", count, "q", q);
  check_list_shapes(kOp, index, count, q.size(0), q.size(1), num_q, num_kv);
}

// What int8 keys come with: three fp32 tensors, or none of them with 16-bit keys.
inline void check_int8_keys(const Tensor& q, const Tensor& k_carved, const std::optional<Tensor>& k_scale,
                            const std::optional<Tensor>& k_tail_scale, const std::optional<Tensor>& k_center,
                            int64_t cells) {
  const bool int8 = k_carved.scalar_type() == ScalarType::Char;
  const struct {
    const char* name;
    const std::optional<Tensor>& tensor;
  } given[] = {{"k_scale", k_scale}, {"k_tail_scale", k_tail_scale}, {"k_center", k_center}};
  for (const auto& [name, tensor] : given) {
    JENGA_REQUIRE(tensor.has_value() == int8, kOp, ": ", name, " must ", int8 ? "be" : "not be", " given for keys of ",
                  dtype_name(k_carved.scalar_type()), ", got ", tensor ? "one" : "none");
    if (!tensor) continue;
    check_device(kOp, name, *tensor, "q", q);
    check_dtype(kOp, name, *tensor, ScalarType::Float);
    check_no_grad(kOp, name, *tensor);
  }
  if (!int8) return;
  JENGA_REQUIRE(q.is_cuda(), kOp, ": k_carved must be ", dtype_name(q.scalar_type()),
                " on a CPU, got int8; its kernels have no 8 bits, take the reference");
  check_int8_head_dim(kOp, "q", q.size(3));
  check_shape(kOp, "k_scale", *k_scale, {q.size(0), q.size(1), scales_of_keys(k_carved.size(2))});
  check_shape(kOp, "k_tail_scale", *k_tail_scale, {q.size(0), q.size(1), scales_of_keys(cells)});
  check_shape(kOp, "k_center", *k_center, {q.size(0), q.size(1), q.size(3)});
}

// Values of so many rows: the dtype of q, or e4m3 blocks.
inline void check_values(const char* name, const Tensor& values, const Tensor& q, bool fp8, int64_t rows) {
  if (!fp8) return check_like(kOp, name, values, "q", q, {q.size(0), q.size(1), rows, q.size(3)});
  check_beside(kOp, name, values, "q", q, ScalarType::Float8_e4m3fn,
               {q.size(0), q.size(1), ceil_div(rows, kValueBlockKeys), q.size(3), kValueBlockKeys});
}

// What e4m3 values come with: two fp32 tensors and int8 keys, or none of them with 16-bit values.
inline void check_fp8_values(const Tensor& q, const Tensor& k_carved, const Tensor& v_carved,
                             const std::optional<Tensor>& v_scale, const std::optional<Tensor>& v_center) {
  const bool fp8 = v_carved.scalar_type() == ScalarType::Float8_e4m3fn;
  const struct {
    const char* name;
    const std::optional<Tensor>& tensor;
  } given[] = {{"v_scale", v_scale}, {"v_center", v_center}};
  for (const auto& [name, tensor] : given) {
    JENGA_REQUIRE(tensor.has_value() == fp8, kOp, ": ", name, " must ", fp8 ? "be" : "not be", " given for values of ",
                  dtype_name(v_carved.scalar_type()), ", got ", tensor ? "one" : "none");
    if (tensor) check_beside(kOp, name, *tensor, "q", q, ScalarType::Float, {q.size(0), q.size(1), q.size(3)});
  }
  if (!fp8) return;
  check_fp8_head_dim(kOp, "q", q.size(3));
  check_dtype(kOp, "k_carved", k_carved, ScalarType::Char);
}

inline void check_tail(const Tensor& q, const std::optional<Tensor>& k_tail, const std::optional<Tensor>& v_tail,
                       ScalarType key_type, bool fp8_values, int64_t tail_block_size, int64_t cells) {
  JENGA_REQUIRE(k_tail.has_value() == v_tail.has_value(), kOp, ": k_tail and v_tail must come together, got only ",
                k_tail ? "k_tail" : "v_tail");
  JENGA_REQUIRE(tail_block_size == 0 || k_tail.has_value(), kOp,
                ": tail_block_size must be 0 without k_tail and v_tail, got ", tail_block_size);
  if (!k_tail) return;
  check_beside(kOp, "k_tail", *k_tail, "q", q, key_type, {q.size(0), q.size(1), cells, q.size(3)});
  check_values("v_tail", *v_tail, q, fp8_values, cells);
}

// Not that it is finite: on a GPU that would wait for it.
inline void check_tail_bias_of(const Tensor& q, const std::optional<Tensor>& tail_bias, int64_t cells) {
  JENGA_REQUIRE(!tail_bias || cells > 0, kOp, ": tail_bias must not be given without tail cells, got one");
  if (tail_bias) check_beside(kOp, "tail_bias", *tail_bias, "q", q, ScalarType::Float, {q.size(0), q.size(1), cells});
}

inline ResidualType check_residual(const Tensor& q, const std::optional<Tensor>& residual,
                                   const std::optional<Tensor>& scale) {
  JENGA_REQUIRE(residual.has_value() || !scale.has_value(), kOp,
                ": residual_scale must come with a residual, got only residual_scale");
  if (!residual) return ResidualType::kNone;
  const int64_t batch = q.size(0), heads = q.size(1), tokens = q.size(2), head_dim = q.size(3);
  check_device(kOp, "residual", *residual, "q", q);
  check_no_grad(kOp, "residual", *residual);
  ResidualType type = ResidualType::kNone;
  switch (residual->scalar_type()) {
    case ScalarType::Float:
      type = ResidualType::kFloat32;
      break;
    case ScalarType::BFloat16:
      type = ResidualType::kBFloat16;
      break;
    case ScalarType::Half:
      type = ResidualType::kFloat16;
      break;
    case ScalarType::Char:
      type = ResidualType::kInt8;
      break;
    case ScalarType::Byte:
      type = ResidualType::kInt4;
      break;
    default:
      fail(kOp, ": residual must be bfloat16, float16, float32, int8 or uint8 (two 4-bit codes), got ",
           dtype_name(residual->scalar_type()));
  }
  check_shape(kOp, "residual", *residual,
              {batch, tokens, heads, type == ResidualType::kInt4 ? head_dim / 2 : head_dim});
  const bool quantised = type == ResidualType::kInt8 || type == ResidualType::kInt4;
  JENGA_REQUIRE(quantised == scale.has_value(), kOp, ": residual_scale must ",
                quantised ? "be given for" : "not be given for", " a residual of ", dtype_name(residual->scalar_type()),
                ", got ", quantised ? "none" : "one");
  if (quantised) {
    check_device(kOp, "residual_scale", *scale, "q", q);
    check_dtype(kOp, "residual_scale", *scale, ScalarType::Float);
    check_shape(kOp, "residual_scale", *scale, {batch, tokens, heads});
    check_no_grad(kOp, "residual_scale", *scale);
  }
  return type;
}

}  // namespace attention_checks

inline BlockSparseAttentionCall make_block_sparse_attention(
    const Tensor& q, const Tensor& k_carved, const Tensor& v_carved, const Tensor& kv_block_index,
    const Tensor& kv_block_count, const Tensor& token_index, int64_t num_context, int64_t q_block_size,
    int64_t kv_block_size, double softmax_scale, const std::optional<Tensor>& context_bias,
    const std::optional<Tensor>& k_tail, const std::optional<Tensor>& v_tail, int64_t tail_block_size,
    const std::optional<Tensor>& residual, const std::optional<Tensor>& residual_scale,
    const std::optional<Tensor>& k_scale, const std::optional<Tensor>& k_tail_scale,
    const std::optional<Tensor>& k_center, const std::optional<Tensor>& v_scale, const std::optional<Tensor>& v_center,
    const std::optional<Tensor>& tail_bias) {
  using namespace attention_checks;
  check_attention_tensor(kOp, "q", q);
  const int64_t batch = q.size(0), heads = q.size(1), tokens = q.size(2), head_dim = q.size(3);
  check_num_context(kOp, num_context, tokens);
  check_q_block_size(kOp, q_block_size, q.is_cuda());
  check_kv_block_size(kOp, kv_block_size);
  check_tail_block_size(kOp, tail_block_size, kv_block_size);
  check_softmax_scale(kOp, softmax_scale);
  const int64_t video = tokens - num_context, carved_tokens = round_up(num_context, kContextAlignment) + video;
  const int64_t num_kv = ceil_div(video, kv_block_size), cells = tail_block_size ? ceil_div(video, tail_block_size) : 0;
  const bool int8_keys = k_carved.scalar_type() == ScalarType::Char;
  const ScalarType key_type = int8_keys ? ScalarType::Char : q.scalar_type();
  check_beside(kOp, "k_carved", k_carved, "q", q, key_type, {q.size(0), q.size(1), carved_tokens, q.size(3)});
  const bool fp8_values = v_carved.scalar_type() == ScalarType::Float8_e4m3fn;
  check_values("v_carved", v_carved, q, fp8_values, carved_tokens);
  check_lists(q, kv_block_index, kv_block_count, ceil_div(video, q_block_size), num_kv);
  check_token_index(kOp, token_index, q, tokens);
  check_context_bias(kOp, context_bias, q, num_context);
  check_tail(q, k_tail, v_tail, key_type, fp8_values, tail_block_size, cells);
  check_tail_bias_of(q, tail_bias, cells);
  check_int8_keys(q, k_carved, k_scale, k_tail_scale, k_center, cells);
  check_fp8_values(q, k_carved, v_carved, v_scale, v_center);
  const ResidualType residual_type = check_residual(q, residual, residual_scale);

  BlockSparseAttentionCall call{
      .params = {},
      .q = with_loadable_rows(q),
      .k_carved = with_loadable_rows(k_carved),
      .v_carved = fp8_values ? as_array(v_carved) : with_loadable_rows(v_carved),
      .kv_block_index = as_array(kv_block_index),
      .kv_block_count = as_array(kv_block_count),
      .token_index = as_array(token_index),
      .context_bias = as_array(context_bias),
      .k_tail = cells ? as_array(k_tail) : std::nullopt,
      .v_tail = cells ? as_array(v_tail) : std::nullopt,
      .residual = as_array(residual),
      .residual_scale = as_array(residual_scale),
      .k_scale = as_array(k_scale),
      .k_tail_scale = as_array(k_tail_scale),
      .k_center = as_array(k_center),
      .v_scale = as_array(v_scale),
      .v_center = as_array(v_center),
      .tail_bias = as_array(tail_bias),
      .out = torch::stable::transpose(new_tensor(q, {batch, tokens, heads, head_dim}, q.scalar_type()), 1, 2),
      .lse = new_tensor(q, {batch, heads, tokens}, ScalarType::Float),
  };
  check_block_lists(kOp, call.kv_block_index, call.kv_block_count, num_kv);
  BlockSparseAttentionParams& p = call.params;
  p.residual_type = residual_type;
  p.batch = batch;
  p.heads = heads;
  p.head_dim = head_dim;
  p.num_context = num_context;
  p.num_video = video;
  p.max_kv = kv_block_index.size(3);
  p.q_block_size = q_block_size;
  p.kv_block_size = kv_block_size;
  p.tail_block_size = tail_block_size;
  p.softmax_scale = static_cast<float>(softmax_scale);
  call.point_params_at_tensors();
  return call;
}

}  // namespace jenga::ops
