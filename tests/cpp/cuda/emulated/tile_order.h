// The order in which tiles are taken, on the host.
#pragma once

#include <vector>

#include "kernels/params.h"

namespace jenga::emulated {

// Query blocks as they come: the order that a GPU sorts by length.
inline std::vector<int32_t> tile_order(const BlockSparseAttentionParams& params) {
  std::vector<int32_t> order;
  for (int64_t head = 0; head < params.batch * params.heads; ++head) {
    for (int i = 0; i < static_cast<int>(ceil_div(params.num_video, 128)); ++i) order.push_back(i);
  }
  return order;
}

}  // namespace jenga::emulated
