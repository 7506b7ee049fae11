// The tile table of cards with 100 KB of shared memory a multiprocessor, 99 KB a thread block: compute capabilities
// 8.6, 8.9 and 12.x.
//
// With the 64 keys of sm_80 a tile of 128 channels or more leaves room for one thread block, four warps, one a
// scheduler: nobody multiplies while they wait or take exponentials. So a unit has as many keys as two thread blocks
// have room for, with two slots of the ring each. Query rows stay as they are: fewer would read keys and values from L2
// and memory more often. Up to 96 channels, and with int8 keys, the tile of sm_80 has room for two, and is the one
// that runs. tests/cpp/cuda/driver/check_resources.py holds all that.
#pragma once

#include "kernels/cuda/sm80/shape.h"

namespace jenga::cuda::sm86 {

constexpr int unit_keys(int head_dim) { return head_dim <= 96 ? 64 : head_dim <= 192 ? 32 : 16; }

template <int kHeadDim>
using TileShape = sm80::TileShape<kHeadDim, unit_keys(kHeadDim)>;

}  // namespace jenga::cuda::sm86
