// The tiles of a call of the kernels of mma.sync, one thread block after another, on the host. The stand-ins of
// sm80/mma.h come before it.
#pragma once

#include <cstring>

#include "kernels/cuda/sm80/attention_arguments.h"
#include "kernels/cuda/sm80/shape.h"
#include "tests/cpp/cuda/emulated/block.h"
#include "tests/cpp/cuda/emulated/tile_order.h"

namespace jenga::emulated {

// Shape: of the queries. attend(args): what every thread does.
template <class Shape, class Attend>
void run_tiles(const BlockSparseAttentionParams& params, int slots, Attend attend) {
  using namespace cuda;
  const std::vector<int32_t> order = tile_order(params);
  const sm80::AttentionArguments args{make_tile_walk(params, order.data()), slots};
  Block block(sm80::kThreads);
  const auto tiles = static_cast<int>(num_tickets(params)) * Shape::kTilesPerBlock;
  for (int tile = 0; tile < tiles; ++tile) {
    std::memset(sm80::dynamic_shared, 0xFF, sizeof sm80::dynamic_shared);
    block.run(tile, [&] { attend(args); });
  }
}

}  // namespace jenga::emulated
