#include "csrc/ops/select_blocks.h"

#include <torch/csrc/stable/library.h>

#include "csrc/ops/cuda/launch_scope.h"
#include "kernels/cuda/launch.h"

namespace jenga::ops {
namespace {

constexpr const char* kOp = "select_blocks";

std::tuple<Tensor, Tensor> select_blocks(const Tensor& q_means, const Tensor& k_means, std::optional<Tensor> adjacency,
                                         int64_t num_video, int64_t q_block_size, int64_t kv_block_size,
                                         int64_t q_cells, int64_t k_cells, int64_t min_blocks, double top_p,
                                         double softmax_scale) {
  const auto call =
      make_select_blocks(q_means, k_means, adjacency,
                         {num_video, q_block_size, kv_block_size, q_cells, k_cells, min_blocks, top_p, softmax_scale});
  const LaunchScope scope(q_means);
  int64_t most = 0;
  check_launch(kOp, cuda::most_selectable_blocks(&most));
  JENGA_REQUIRE(call.params.num_kv_blocks() <= most, kOp, ": num_video must be at most ", most,
                " key blocks on this GPU (their scores stay in shared memory), got ", call.params.num_kv_blocks(),
                "; take key blocks of 128 tokens or the torch backend");
  const auto bytes = static_cast<int64_t>(cuda::select_blocks_workspace(call.params));
  const Tensor workspace = new_tensor(q_means, {bytes}, ScalarType::Byte);  // caching allocator: safe in a CUDA graph
  check_launch(kOp, cuda::select_blocks(call.params, workspace.mutable_data_ptr(), scope.stream()));
  return call.outputs();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CUDA, m) { m.impl("select_blocks", TORCH_BOX(&select_blocks)); }

}  // namespace jenga::ops
