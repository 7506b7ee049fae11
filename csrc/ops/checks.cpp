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
