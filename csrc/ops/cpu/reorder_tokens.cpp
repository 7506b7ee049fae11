#include "csrc/ops/reorder_tokens.h"

#include <torch/csrc/stable/library.h>

#include <cstring>
#include <vector>

#include "csrc/ops/convert.h"

namespace jenga::ops {
namespace {

// out[..., i, :] = x[..., token_index[i], :], one memcpy a row.
Tensor reorder_tokens(const Tensor& x, const Tensor& token_index) {
  check_reorder_tokens(x, token_index);
  const int64_t tokens = x.size(x.dim() - 2), count = token_index.numel();
  const Tensor index_array = as_array(token_index);
  const auto* index = data<int32_t>(index_array);
  for (int64_t i = 0; i < count; ++i) {
    JENGA_REQUIRE(index[i] >= 0 && index[i] < tokens, "reorder_tokens: token_index must be from 0 to ", tokens - 1,
                  ", got ", index[i], " at position ", i);
  }
  std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end());
  sizes[sizes.size() - 2] = count;
  Tensor out = torch::stable::new_empty(x, sizes, x.scalar_type());
  if (out.numel() == 0) return out;

  const Tensor source = with_loadable_rows(x);
  const int64_t last = source.dim() - 1, item = static_cast<int64_t>(source.element_size());
  const int64_t row_bytes = source.size(last) * item, token_stride = source.stride(last - 1) * item;
  const auto* from = static_cast<const char*>(source.const_data_ptr());
  auto* to = static_cast<char*>(out.mutable_data_ptr());
  const std::vector<int64_t> extents(source.sizes().begin(), source.sizes().end());
  const std::vector<int64_t> strides(source.strides().begin(), source.strides().end());
  constexpr int64_t kGrainBytes = 1 << 15;
  torch::stable::parallel_for(0, out.numel() / source.size(last), kGrainBytes / row_bytes + 1,
                              [&](int64_t begin, int64_t end) {
                                for (int64_t row = begin; row < end; ++row) {
                                  int64_t outer = row / count, offset = index[row % count] * token_stride;
                                  for (int64_t d = last - 2; d >= 0; --d) {
                                    offset += outer % extents[d] * strides[d] * item;
                                    outer /= extents[d];
                                  }
                                  std::memcpy(to + row * row_bytes, from + offset, row_bytes);
                                }
                              });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CPU, m) { m.impl("reorder_tokens", TORCH_BOX(&reorder_tokens)); }

}  // namespace jenga::ops
