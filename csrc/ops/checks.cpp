#include "csrc/ops/checks.h"

#include <vector>

namespace jenga::ops {

void check_token_index(const char* op, const Tensor& token_index, const Tensor& q, int64_t tokens) {
  check_device(op, "token_index", token_index, "q", q);
  check_dtype(op, "token_index", token_index, ScalarType::Int);
  check_shape(op, "token_index", token_index, {tokens});
  if (!token_index.is_cpu()) return;
  const auto* index = static_cast<const int32_t*>(token_index.const_data_ptr());
  const int64_t stride = token_index.stride(0);
  std::vector<uint8_t> seen(tokens, 0);
  for (int64_t i = 0; i < tokens; ++i) {
    const int64_t row = index[i * stride];
    JENGA_REQUIRE(row >= 0 && row < tokens && !seen[row], op, ": token_index must be a permutation of 0 .. ",
                  tokens - 1, ", got ", row, " at position ", i);
    seen[row] = 1;
  }
}

void check_context_bias(const char* op, const std::optional<Tensor>& bias, const Tensor& q, int64_t num_context) {
  if (!bias) return;
  const int64_t padded_context = round_up(num_context, kContextAlignment);
  check_device(op, "context_bias", *bias, "q", q);
  check_dtype(op, "context_bias", *bias, ScalarType::Float);
  check_shape(op, "context_bias", *bias, {q.size(0), padded_context});
  check_no_grad(op, "context_bias", *bias);
  if (!bias->is_cpu()) return;
  const auto* values = static_cast<const float*>(bias->const_data_ptr());
  for (int64_t b = 0; b < bias->size(0); ++b) {
    for (int64_t i = 0; i < padded_context; ++i) {
      const float value = values[b * bias->stride(0) + i * bias->stride(1)];
      JENGA_REQUIRE(!std::isnan(value) && value < INFINITY, op, ": context_bias must hold finite values or -inf, got ",
                    value, " in column ", i);
      JENGA_REQUIRE(i < num_context || value == -INFINITY, op, ": context_bias must be -inf from column num_context (",
                    num_context, ") on, got ", value, " in column ", i);
    }
  }
}

void check_list_index(const char* op, const Tensor& index) {
  check_dtype(op, "kv_block_index", index, ScalarType::Int);
  JENGA_REQUIRE(index.dim() == 4, op, ": kv_block_index must have 4 dimensions [B, H, nq, max_kv], got shape ",
                Shape(index));
}

void check_list_shapes(const char* op, const Tensor& index, const Tensor& count, int64_t batch, int64_t heads,
                       int64_t num_q, int64_t num_kv) {
  const int64_t max_kv = index.size(3);
  JENGA_REQUIRE(max_kv <= num_kv, op, ": kv_block_index must list at most ", num_kv, " key blocks, got ", max_kv);
  check_shape(op, "kv_block_index", index, {batch, heads, num_q, max_kv});
  check_dtype(op, "kv_block_count", count, ScalarType::Int);
  check_shape(op, "kv_block_count", count, {batch, heads, num_q});
}

void check_block_lists(const char* op, const Tensor& index, const Tensor& count, int64_t num_kv_blocks) {
  if (!index.is_cpu()) return;
  const auto* list = static_cast<const int32_t*>(index.const_data_ptr());
  const auto* counts = static_cast<const int32_t*>(count.const_data_ptr());
  const int64_t max_kv = index.size(3);
  for (int64_t row = 0; row < count.numel(); ++row, list += max_kv) {
    const int64_t kept = counts[row];
    JENGA_REQUIRE(kept >= 0 && kept <= max_kv, op, ": kv_block_count must be from 0 to ", max_kv, ", got ", kept,
                  " in row ", row);
    int64_t previous = -1;
    for (int64_t i = 0; i < kept; ++i) {
      JENGA_REQUIRE(list[i] > previous && list[i] < num_kv_blocks, op,
                    ": kv_block_index must be ascending within 0 .. ", num_kv_blocks - 1, ", got ", list[i],
                    " at position ", i, " of row ", row);
      previous = list[i];
    }
  }
}

}  // namespace jenga::ops
