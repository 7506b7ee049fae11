#include "csrc/ops/reorder_tokens.h"

#include <torch/csrc/stable/library.h>

namespace jenga::ops {
namespace {

// torch's own gather: the hot path reorders inside prepare_blocks and block_sparse_attention.
// An index out of range is a device-side assertion, as everywhere in torch.
Tensor reorder_tokens(const Tensor& x, const Tensor& token_index) {
  check_reorder_tokens(x, token_index);
  StableIValue stack[3] = {torch::stable::detail::from(x), torch::stable::detail::from(x.dim() - 2),
                           torch::stable::detail::from(token_index)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::index_select", "", stack, TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CUDA, m) { m.impl("reorder_tokens", TORCH_BOX(&reorder_tokens)); }

}  // namespace jenga::ops
