// The kernel of kept_share: one thread block, since lists are some ten thousand at most.
#pragma once

#include <cstdint>

#include "kernels/cuda/driver/kernel.h"
#include "kernels/params.h"

namespace jenga::cuda {

inline constexpr int kKeptShareThreads = 1024;

struct KeptShareArguments {
  const int32_t *kv_block_index, *kv_block_count;
  float* kept_share;
  double all_pairs;
  int32_t lists, max_kv;
  int32_t num_q_blocks, num_kv_blocks, kv_block_size;
  int32_t lacking_rows, lacking_keys;  // of the last blocks
};
JENGA_KERNEL(common_kept_share, jenga_kept_share, KeptShareArguments);

KeptShareArguments kept_share_arguments(const KeptShareParams& params);

}  // namespace jenga::cuda
