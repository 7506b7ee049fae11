// The order in which the tiles of a launch are drawn (tile_plan.h), on the host.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/common/walk_arguments.h"

namespace jenga::cuda::sm90 {

// Of the workspace of a launch: the next ticket, padded to 16 bytes, and the order of the tiles.
inline constexpr size_t kTicketBytes = 16;
inline size_t attention_workspace(const BlockSparseAttentionParams& params) {
  return kTicketBytes + sizeof(int32_t) * params.batch * params.heads * ceil_div(params.num_video, kQueryBlockRows);
}

struct Tickets {
  TileWalk walk;
  int32_t* next;     // in the workspace
  int32_t number;    // 0: nothing to do
  int32_t resident;  // thread blocks that draw them, one a processor
};

// Queues what the kernel finds in the workspace.
CUresult make_tickets(const BlockSparseAttentionParams& params, void* workspace, CUstream stream, Tickets* tickets);

}  // namespace jenga::cuda::sm90
