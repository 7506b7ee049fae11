// Pairs of a row and a key, block by block.
#include <algorithm>

#include "kernels/reference/reference.h"

namespace jenga::reference {

void kept_share(const KeptShareParams& p) {
  const auto tokens = [&](int64_t block, int64_t size) { return std::min(size, p.num_video - block * size); };
  int64_t pairs = 0;
  for (int64_t list = 0; list < p.num_lists(); ++list) {
    const int64_t rows = tokens(list % p.num_q_blocks(), kQueryBlockRows);
    for (int64_t i = 0; i < p.kv_block_count[list]; ++i) {
      pairs += rows * tokens(p.kv_block_index[list * p.max_kv + i], p.kv_block_size);
    }
  }
  *p.kept_share = static_cast<float>(static_cast<double>(pairs) / p.all_pairs());
}

}  // namespace jenga::reference
