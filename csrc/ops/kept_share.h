// kept_share: checks, output and kernel parameters, the same for CPU and CUDA.
#pragma once

#include "csrc/ops/convert.h"

namespace jenga::ops {

struct KeptShareCall {
  KeptShareParams params;
  Tensor kv_block_index, kv_block_count;  // keep alive what params points to
  Tensor kept_share;

  Tensor outputs() const { return kept_share; }
};

inline KeptShareCall make_kept_share(const Tensor& kv_block_index, const Tensor& kv_block_count, int64_t num_video,
                                     int64_t kv_block_size) {
  constexpr const char* kOp = "kept_share";
  check_list_index(kOp, kv_block_index);
  check_device(kOp, "kv_block_count", kv_block_count, "kv_block_index", kv_block_index);
  JENGA_REQUIRE(num_video >= 1, kOp, ": num_video must be at least 1, got ", num_video);
  check_kv_block_size(kOp, kv_block_size);
  const int64_t batch = kv_block_index.size(0), heads = kv_block_index.size(1);
  const int64_t num_kv = ceil_div(num_video, kv_block_size);
  JENGA_REQUIRE(batch > 0 && heads > 0, kOp, ": kv_block_index must not be empty, got shape ", Shape(kv_block_index));
  check_list_shapes(kOp, kv_block_index, kv_block_count, batch, heads, ceil_div(num_video, kQueryBlockRows), num_kv);

  KeptShareCall call{
      .params = {},
      .kv_block_index = as_array(kv_block_index),
      .kv_block_count = as_array(kv_block_count),
      .kept_share = new_tensor(kv_block_index, {}, ScalarType::Float),
  };
  check_block_lists(kOp, call.kv_block_index, call.kv_block_count, num_kv);
  call.params = {
      .kv_block_index = data<int32_t>(call.kv_block_index),
      .kv_block_count = data<int32_t>(call.kv_block_count),
      .kept_share = mutable_data<float>(call.kept_share),
      .batch = batch,
      .heads = heads,
      .num_video = num_video,
      .max_kv = kv_block_index.size(3),
      .kv_block_size = kv_block_size,
  };
  return call;
}

}  // namespace jenga::ops
