#include "csrc/core/adjacency.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace jenga::core {

std::vector<uint8_t> block_adjacency(TokenGrid grid, std::span<const int32_t> order, int64_t block_size) {
  const int64_t tokens = checked_num_tokens(grid, "block_adjacency");
  if (static_cast<int64_t>(order.size()) != tokens) {
    throw std::invalid_argument("block_adjacency: order must have t * h * w = " + std::to_string(tokens) +
                                " entries, got " + std::to_string(order.size()));
  }
  if (block_size <= 0) {
    throw std::invalid_argument("block_adjacency: block_size must be positive, got " + std::to_string(block_size));
  }
  std::vector<int32_t> block = curve_rank(order);  // [t * h * w] raster
  for (int32_t& entry : block) entry = static_cast<int32_t>(entry / block_size);

  const int64_t num_blocks = (tokens - 1) / block_size + 1;
  std::vector<uint8_t> adjacent(num_blocks * num_blocks, 0);
  for (int64_t i = 0; i < num_blocks; ++i) adjacent[i * num_blocks + i] = 1;

  const auto [t, h, w] = grid;
  // One of each pair of opposite offsets: both entries are set, so the other finds nothing new.
  for (int64_t dz = 0; dz <= 1; ++dz) {
    for (int64_t dy = dz ? -1 : 0; dy <= 1; ++dy) {
      for (int64_t dx = dz || dy ? -1 : 1; dx <= 1; ++dx) {
        for (int64_t z = 0; z < t - dz; ++z) {
          for (int64_t y = std::max<int64_t>(0, -dy); y < h - std::max<int64_t>(0, dy); ++y) {
            const int32_t* here = &block[(z * h + y) * w];
            const int32_t* there = &block[((z + dz) * h + y + dy) * w];
            for (int64_t x = std::max<int64_t>(0, -dx); x < w - std::max<int64_t>(0, dx); ++x) {
              adjacent[here[x] * num_blocks + there[x + dx]] = 1;
              adjacent[there[x + dx] * num_blocks + here[x]] = 1;
            }
          }
        }
      }
    }
  }
  return adjacent;
}

}  // namespace jenga::core
