#include "csrc/core/adjacency.h"

#include <stdexcept>
#include <string>

namespace jenga::core {

std::vector<uint8_t> block_adjacency(TokenGrid grid, std::span<const int32_t> order, int64_t block_size) {
  const int64_t tokens = grid.t * grid.h * grid.w;
  if (block_size < 1) {
    throw std::invalid_argument("block_adjacency: block_size must be positive, got " + std::to_string(block_size));
  }
  if (static_cast<int64_t>(order.size()) != tokens) {
    throw std::invalid_argument("block_adjacency: order must have t * h * w = " + std::to_string(tokens) +
                                " entries, got " + std::to_string(order.size()));
  }
  std::vector<int32_t> block(order.size());
  for (size_t position = 0; position < order.size(); ++position) {
    block[static_cast<size_t>(order[position])] = static_cast<int32_t>(static_cast<int64_t>(position) / block_size);
  }
  const int64_t num_blocks = (tokens + block_size - 1) / block_size;
  std::vector<uint8_t> adjacent(static_cast<size_t>(num_blocks * num_blocks), 0);
  // Half of the 26 neighbours (and the token itself) suffice: each pair is entered both ways.
  for (int64_t z = 0; z < grid.t; ++z) {
    for (int64_t y = 0; y < grid.h; ++y) {
      for (int64_t x = 0; x < grid.w; ++x) {
        const int64_t mine = block[static_cast<size_t>((z * grid.h + y) * grid.w + x)];
        for (int64_t dz = 0; dz <= 1; ++dz) {
          for (int64_t dy = dz == 0 ? 0 : -1; dy <= 1; ++dy) {
            for (int64_t dx = dz == 0 && dy == 0 ? 0 : -1; dx <= 1; ++dx) {
              const int64_t nz = z + dz, ny = y + dy, nx = x + dx;
              if (nz >= grid.t || ny < 0 || ny >= grid.h || nx < 0 || nx >= grid.w) continue;
              const int64_t theirs = block[static_cast<size_t>((nz * grid.h + ny) * grid.w + nx)];
              adjacent[static_cast<size_t>(mine * num_blocks + theirs)] = 1;
              adjacent[static_cast<size_t>(theirs * num_blocks + mine)] = 1;
            }
          }
        }
      }
    }
  }
  return adjacent;
}

}  // namespace jenga::core
