#include "csrc/ops/select_blocks.h"

#include <torch/csrc/stable/library.h>

#include "csrc/ops/cpu/parallel.h"
#include "kernels/cpu/dispatch.h"

namespace jenga::ops {
namespace {

std::tuple<Tensor, Tensor> select_blocks(const Tensor& q_means, const Tensor& k_means, std::optional<Tensor> adjacency,
                                         int64_t num_video, int64_t q_block_size, int64_t kv_block_size,
                                         int64_t q_cells, int64_t k_cells, int64_t min_blocks, double top_p,
                                         double softmax_scale) {
  const auto call =
      make_select_blocks(q_means, k_means, adjacency,
                         {num_video, q_block_size, kv_block_size, q_cells, k_cells, min_blocks, top_p, softmax_scale});
  cpu::live_table().select_blocks(call.params, parallel_for);
  return call.outputs();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CPU, m) { m.impl("select_blocks", TORCH_BOX(&select_blocks)); }

}  // namespace jenga::ops
