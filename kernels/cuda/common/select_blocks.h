// The last step of select_blocks: masses to lists.
#pragma once

#include "kernels/cuda/driver/kernel.h"
#include "kernels/params.h"

namespace jenga::cuda {

inline constexpr int kMostRows = 4;  // query blocks of a thread block, one a warp

struct SelectArguments {
  SelectBlocksParams params;
  const float* masses;  // [B, H, nq, padded]
  int64_t lists;        // B * H * nq
  int32_t rows;         // of a thread block: 4, 2 or 1
  int32_t num_q, num_kv;
  int32_t padded;  // keys of a row in shared memory, those past num_kv are 0
};
JENGA_KERNEL(common_select_blocks, jenga_select_blocks, SelectArguments);

}  // namespace jenga::cuda
