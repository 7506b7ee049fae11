#include "kernels/cpu/kept_share.h"

namespace jenga::cpu {

void kept_share(const KeptShareParams& p) {
  const int64_t last_q_block = p.num_q_blocks() - 1, last_kv_block = p.num_kv_blocks() - 1;
  int64_t pairs = 0;
  for (int64_t list = 0; list < p.num_lists(); ++list) {
    const int64_t count = p.kv_block_count[list];
    const bool has_last = count > 0 && p.kv_block_index[list * p.max_kv + count - 1] == last_kv_block;
    const bool is_last = list % p.num_q_blocks() == last_q_block;
    const int64_t keys = count * p.kv_block_size - (has_last ? p.lacking_keys() : 0);
    pairs += keys * (kQueryBlockRows - (is_last ? p.lacking_rows() : 0));
  }
  *p.kept_share = static_cast<float>(static_cast<double>(pairs) / p.all_pairs());
}

}  // namespace jenga::cpu
