// reorder_tokens: the checks. x [..., S, D], token_index int32 [M] -> [..., M, D]; any dtype, any M.
#pragma once

#include "csrc/ops/checks.h"

namespace jenga::ops {

inline void check_reorder_tokens(const Tensor& x, const Tensor& token_index) {
  constexpr const char* kOp = "reorder_tokens";
  JENGA_REQUIRE(x.dim() >= 2, kOp, ": x must have at least 2 dimensions [..., S, D], got shape ", Shape(x));
  check_no_grad(kOp, "x", x);
  check_device(kOp, "token_index", token_index, "x", x);
  check_dtype(kOp, "token_index", token_index, ScalarType::Int);
  JENGA_REQUIRE(token_index.dim() == 1, kOp, ": token_index must have 1 dimension, got shape ", Shape(token_index));
}

}  // namespace jenga::ops
