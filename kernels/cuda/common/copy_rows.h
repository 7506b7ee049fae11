// The kernel of copy_rows: a plane is the rows of one pair, batch and head, or of all heads where they lie side by
// side.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/driver/kernel.h"
#include "kernels/params.h"

namespace jenga::cuda {

inline constexpr int kCopyThreads = 256;
inline constexpr int kCopyVectors = 4;  // of 16 bytes a thread: all are on their way before the first is stored
inline constexpr int64_t kCopyBlockVectors = int64_t{kCopyThreads} * kCopyVectors;

// Divides numbers below 2^31 by one product: (n + (n * multiplier >> 32)) >> shift. Granlund and Montgomery, "Division
// by invariant integers using multiplication", 1994.
struct Divisor {
  uint32_t value, multiplier, shift;
};

struct CopyRowsArguments {
  CopyRowsParams::Pair pairs[kMostRowCopies];  // strides in vectors of 16 bytes
  Divisor plane_blocks, heads, batch;          // thread blocks of a plane; planes of a batch; batches of a pair
  Divisor row_vectors;
  uint32_t plane_vectors;
};
JENGA_KERNEL(common_copy_rows, jenga_copy_rows, CopyRowsArguments);

// *thread_blocks: 0 where there is nothing to copy, and then *arguments is left as it is. Errors: launch.h.
CUresult copy_rows_arguments(const CopyRowsParams& params, CopyRowsArguments* arguments, int64_t* thread_blocks);

}  // namespace jenga::cuda
