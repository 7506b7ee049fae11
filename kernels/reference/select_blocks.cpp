// Scores of a query block in fp64, rounded once to fp32; the rule itself is csrc/core/selection.h.
#include <algorithm>
#include <span>
#include <vector>

#include "csrc/core/selection.h"
#include "kernels/reference/reference.h"

namespace jenga::reference {

void select_blocks(const SelectBlocksParams& p) {
  const auto nkv = static_cast<size_t>(p.num_kv_blocks);
  std::vector<float> scores(nkv);
  for (int64_t row = 0; row < p.batch * p.heads * p.num_q_blocks; ++row) {
    const int64_t head = row / p.num_q_blocks, q_block = row % p.num_q_blocks;
    for (int64_t j = 0; j < p.num_kv_blocks; ++j) {
      double sum = 0;
      for (int64_t d = 0; d < p.head_dim; ++d) {
        sum += static_cast<double>(p.q_pool[row * p.head_dim + d]) *
               p.k_pool[(head * p.num_kv_blocks + j) * p.head_dim + d];
      }
      scores[j] = static_cast<float>(p.softmax_scale * sum);
    }
    const auto forced =
        p.adjacency ? std::span(p.adjacency + q_block * p.num_kv_blocks, nkv) : std::span<const uint8_t>();
    const std::vector<int32_t> kept = core::select_row(scores, p.min_blocks, p.top_p, forced);
    int32_t* out = p.kv_block_index + row * p.max_kv;
    std::fill(std::copy(kept.begin(), kept.end(), out), out + p.max_kv, -1);
    p.kv_block_count[row] = static_cast<int32_t>(kept.size());
  }
}

}  // namespace jenga::reference
