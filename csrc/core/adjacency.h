// Which blocks of video tokens touch each other in the video.
//
// The token at curve position r belongs to block r / block_size. Two blocks are adjacent where a token of one lies in
// the 3 x 3 x 3 neighbourhood of a token of the other; nothing wraps at the border.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "csrc/core/curve.h"

namespace jenga::core {

// [nb * nb] row-major 0/1, nb = ceil(t*h*w / block_size): symmetric, diagonal 1. order: [t*h*w] of curve_order.
// Throws std::invalid_argument for an invalid grid, an order that is no permutation of it, block_size <= 0.
std::vector<uint8_t> block_adjacency(TokenGrid grid, std::span<const int32_t> order, int64_t block_size);

}  // namespace jenga::core
