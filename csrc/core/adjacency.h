// Which blocks of curve-ordered tokens touch in the 3-D grid (paper section on the block-adjacency mask).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "csrc/core/curve.h"

namespace jenga::core {

// [nb * nb] of 0/1, nb = ceil(N / block_size): 1 where some token of one block lies in the 3x3x3 neighbourhood of some
// token of the other. Symmetric, diagonal 1, no wrap. order: curve_order of the grid.
// Throws std::invalid_argument for a block size below 1 or an order of another length than the grid.
std::vector<uint8_t> block_adjacency(TokenGrid grid, std::span<const int32_t> order, int64_t block_size);

}  // namespace jenga::core
