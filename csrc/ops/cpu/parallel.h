// The thread pool that CPU kernels are given: torch's own, so that torch.set_num_threads holds for them too.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "kernels/params.h"

namespace jenga::ops {

inline void parallel_for(int64_t begin, int64_t end, int64_t grain, ParallelBody body, void* context) {
  TORCH_ERROR_CODE_CHECK(torch_parallel_for(begin, end, grain, body, context));
}

}  // namespace jenga::ops
