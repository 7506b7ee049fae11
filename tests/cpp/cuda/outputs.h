// What a kernel wrote, and the comparison with what it should have written.
#pragma once

#include <gtest/gtest.h>

#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/attention_case.h"

namespace jenga::testing {

struct Outputs {
  std::vector<uint16_t> out;  // [B, H, S, D] raster order
  std::vector<float> lse;     // [B, H, S]
};

inline int64_t num_rows(const BlockSparseAttentionParams& params) {
  return params.batch * params.heads * (params.num_context + params.num_video);
}

// NaNs, so that what a kernel on the host leaves out is found.
inline Outputs unwritten(const BlockSparseAttentionParams& params) {
  return {std::vector<uint16_t>(num_rows(params) * params.head_dim, 0xFFFF), std::vector<float>(num_rows(params), NAN)};
}

// The same call with its outputs there.
inline BlockSparseAttentionParams writing(BlockSparseAttentionParams params, Outputs& outputs) {
  params.out = {outputs.out.data(), params.q.strides, params.q.dtype};
  params.lse = outputs.lse.data();
  return params;
}

// Of the reference, for parameters in memory of the host. unit_keys: its argument.
inline AttentionResult by_reference(BlockSparseAttentionParams params, int64_t unit_keys = 64) {
  std::vector<float> out(num_rows(params) * params.head_dim), lse(num_rows(params));
  params.out = {out.data(), params.q.strides, DataType::kFloat32};
  params.lse = lse.data();
  reference::block_sparse_attention(params, unit_keys);
  return {{out.begin(), out.end()}, {lse.begin(), lse.end()}};
}

inline void expect_lse(const std::vector<float>& got, const std::vector<double>& wanted, double tolerance) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (std::isinf(wanted[i])) {
      ASSERT_EQ(got[i], wanted[i]) << "row " << i;
    } else {
      ASSERT_NEAR(got[i], wanted[i], tolerance) << "row " << i;
    }
  }
}

// allowed: relative error of out in L2. Written so that a NaN fails.
inline void expect_near(DataType dtype, const Outputs& got, const AttentionResult& wanted, double allowed,
                        double lse_tolerance) {
  const double error = relative_error(decoded(dtype, got.out), wanted.out);
  EXPECT_TRUE(error <= allowed) << "relative error " << error;
  expect_lse(got.lse, wanted.lse, lse_tolerance);
}

}  // namespace jenga::testing
