// pack_residual: checks, outputs and kernel parameters, the same for CPU and CUDA.
#pragma once

#include <tuple>

#include "csrc/ops/convert.h"

namespace jenga::ops {

struct PackResidualCall {
  PackResidualParams params;
  Tensor dense, carved;  // keep alive what params points to
  Tensor packed, scale;

  std::tuple<Tensor, Tensor> outputs() const { return {packed, scale}; }
};

inline PackResidualCall make_pack_residual(const Tensor& dense, const Tensor& carved, int64_t bits) {
  constexpr const char* kOp = "pack_residual";
  check_attention_tensor(kOp, "dense", dense);
  const int64_t batch = dense.size(0), heads = dense.size(1), tokens = dense.size(2), head_dim = dense.size(3);
  check_like(kOp, "carved", carved, "dense", dense, {batch, heads, tokens, head_dim});
  JENGA_REQUIRE(bits == 4 || bits == 8, kOp, ": bits must be 4 or 8, got ", bits);

  PackResidualCall call{
      .params = {},
      .dense = with_loadable_rows(dense),
      .carved = with_loadable_rows(carved),
      .packed = new_tensor(dense, {batch, tokens, heads, bits == 4 ? head_dim / 2 : head_dim},
                           bits == 4 ? ScalarType::Byte : ScalarType::Char),
      .scale = new_tensor(dense, {batch, tokens, heads}, ScalarType::Float),
  };
  call.params = {
      .dense = operand(call.dense),
      .carved = operand(call.carved),
      .packed = call.packed.mutable_data_ptr(),
      .scale = mutable_data<float>(call.scale),
      .batch = batch,
      .heads = heads,
      .tokens = tokens,
      .head_dim = head_dim,
      .bits = static_cast<int32_t>(bits),
  };
  return call;
}

}  // namespace jenga::ops
