// Means of coarse cells, the first step of select_blocks.
#pragma once

#include "kernels/cuda/driver/kernel.h"
#include "kernels/params.h"

namespace jenga::cuda {

inline constexpr int kAverageThreads = 256;

struct AverageArguments {
  SelectBlocksParams params;
  void* coarse_means;
  int64_t vectors;  // of 16 bytes, in coarse_means
};
JENGA_KERNEL_PAIR(common_average_cells, jenga_average_cells, AverageArguments);

}  // namespace jenga::cuda
