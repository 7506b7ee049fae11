#include "csrc/ops/block_sparse_attention.h"

namespace jenga::ops {
namespace {

constexpr const char* kOp = "block_sparse_attention";

void check_tail(const BlockSparseAttentionArgs& args, int64_t cells) {
  JENGA_REQUIRE(args.k_tail.has_value() == args.v_tail.has_value(), kOp,
                ": k_tail and v_tail must come together, got only ", args.k_tail ? "k_tail" : "v_tail");
  JENGA_REQUIRE(args.tail_block_size == 0 || args.k_tail.has_value(), kOp,
                ": tail_block_size must be 0 without k_tail and v_tail, got ", args.tail_block_size);
  if (!args.k_tail) return;
  const Tensor& q = args.q;
  check_like(kOp, "k_tail", *args.k_tail, "q", q, {q.size(0), q.size(1), cells, q.size(3)});
  check_like(kOp, "v_tail", *args.v_tail, "q", q, {q.size(0), q.size(1), cells, q.size(3)});
}

ResidualType check_residual(const BlockSparseAttentionArgs& args) {
  JENGA_REQUIRE(args.residual.has_value() || !args.residual_scale.has_value(), kOp,
                ": residual_scale must come with a residual, got only residual_scale");
  if (!args.residual) return ResidualType::kNone;
  const Tensor &q = args.q, &residual = *args.residual;
  const int64_t batch = q.size(0), heads = q.size(1), tokens = q.size(2), head_dim = q.size(3);
  check_device(kOp, "residual", residual, "q", q);
  check_no_grad(kOp, "residual", residual);
  ResidualType type = ResidualType::kNone;
  switch (residual.scalar_type()) {
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
           dtype_name(residual.scalar_type()));
  }
  check_shape(kOp, "residual", residual, {batch, tokens, heads, type == ResidualType::kInt4 ? head_dim / 2 : head_dim});
  const bool quantised = type == ResidualType::kInt8 || type == ResidualType::kInt4;
  JENGA_REQUIRE(quantised == args.residual_scale.has_value(), kOp, ": residual_scale must ",
                quantised ? "be given for" : "not be given for", " a residual of ", dtype_name(residual.scalar_type()),
                ", got ", quantised ? "none" : "one");
  if (quantised) {
    check_device(kOp, "residual_scale", *args.residual_scale, "q", q);
    check_dtype(kOp, "residual_scale", *args.residual_scale, ScalarType::Float);
    check_shape(kOp, "residual_scale", *args.residual_scale, {batch, tokens, heads});
  }
  return type;
}

}  // namespace

BlockSparseAttentionCall make_block_sparse_attention(const BlockSparseAttentionArgs& args) {
  const Tensor& q = args.q;
  check_attention_tensor(kOp, "q", q);
  const int64_t batch = q.size(0), heads = q.size(1), tokens = q.size(2), head_dim = q.size(3);
  check_num_context(kOp, args.num_context, tokens);
  check_q_block_size(kOp, args.q_block_size, q.is_cuda());
  check_kv_block_size(kOp, args.kv_block_size);
  check_tail_block_size(kOp, args.tail_block_size, args.kv_block_size);
  check_softmax_scale(kOp, args.softmax_scale);
  const int64_t video = tokens - args.num_context;
  const int64_t padded_context = round_up(args.num_context, kContextAlignment);
  const int64_t num_q = ceil_div(video, args.q_block_size), num_kv = ceil_div(video, args.kv_block_size);
  check_like(kOp, "k_carved", args.k_carved, "q", q, {batch, heads, padded_context + video, head_dim});
  check_like(kOp, "v_carved", args.v_carved, "q", q, {batch, heads, padded_context + video, head_dim});

  const Tensor& index = args.kv_block_index;
  check_device(kOp, "kv_block_index", index, "q", q);
  check_dtype(kOp, "kv_block_index", index, ScalarType::Int);
  JENGA_REQUIRE(index.dim() == 4, kOp, ": kv_block_index must have 4 dimensions [B, H, nq, max_kv], got shape ",
                Shape(index));
  const int64_t max_kv = index.size(3);
  JENGA_REQUIRE(max_kv <= num_kv, kOp, ": kv_block_index must list at most ", num_kv, " key blocks, got ", max_kv);
  check_shape(kOp, "kv_block_index", index, {batch, heads, num_q, max_kv});
  check_device(kOp, "kv_block_count", args.kv_block_count, "q", q);
  check_dtype(kOp, "kv_block_count", args.kv_block_count, ScalarType::Int);
  check_shape(kOp, "kv_block_count", args.kv_block_count, {batch, heads, num_q});
  check_token_index(kOp, args.token_index, q, tokens);
  check_context_bias(kOp, args.context_bias, q, args.num_context);
  const int64_t cells = args.tail_block_size ? ceil_div(video, args.tail_block_size) : 0;
  check_tail(args, cells);
  const ResidualType residual_type = check_residual(args);

  BlockSparseAttentionCall call{
      .params = {},
      .q = with_loadable_rows(q),
      .k_carved = with_loadable_rows(args.k_carved),
      .v_carved = with_loadable_rows(args.v_carved),
      .kv_block_index = as_array(index),
      .kv_block_count = as_array(args.kv_block_count),
      .token_index = as_array(args.token_index),
      .context_bias = as_array(args.context_bias),
      .k_tail = cells ? as_array(args.k_tail) : std::nullopt,
      .v_tail = cells ? as_array(args.v_tail) : std::nullopt,
      .residual = as_array(args.residual),
      .residual_scale = as_array(args.residual_scale),
      .out = torch::stable::transpose(new_tensor(q, {batch, tokens, heads, head_dim}, q.scalar_type()), 1, 2),
      .lse = new_tensor(q, {batch, heads, tokens}, ScalarType::Float),
  };
  check_block_lists(kOp, call.kv_block_index, call.kv_block_count, num_kv);
  call.params = {
      .dtype = data_type(q.scalar_type()),
      .q = call.q.const_data_ptr(),
      .k_carved = call.k_carved.const_data_ptr(),
      .v_carved = call.v_carved.const_data_ptr(),
      .q_strides = strides_of(call.q),
      .k_strides = strides_of(call.k_carved),
      .v_strides = strides_of(call.v_carved),
      .kv_block_index = data<int32_t>(call.kv_block_index),
      .kv_block_count = data<int32_t>(call.kv_block_count),
      .token_index = data<int32_t>(call.token_index),
      .context_bias = data_or_null<float>(call.context_bias),
      .k_tail = data_or_null<void>(call.k_tail),
      .v_tail = data_or_null<void>(call.v_tail),
      .residual = data_or_null<void>(call.residual),
      .residual_scale = data_or_null<float>(call.residual_scale),
      .residual_type = residual_type,
      .out = call.out.mutable_data_ptr(),
      .out_strides = strides_of(call.out),
      .lse = mutable_data<float>(call.lse),
      .batch = batch,
      .heads = heads,
      .head_dim = head_dim,
      .num_context = args.num_context,
      .num_video = video,
      .max_kv = max_kv,
      .q_block_size = args.q_block_size,
      .kv_block_size = args.kv_block_size,
      .tail_block_size = args.tail_block_size,
      .softmax_scale = static_cast<float>(args.softmax_scale),
  };
  return call;
}

}  // namespace jenga::ops
