// The plan of one tile: a whole query block, drawn by ticket.
//
// Tickets run over the heads, longest list first. The context tiles of all heads, whose lists are full, come in one go
// before the last heads: late, because thread blocks that started together sweep a head's keys in step and find them in
// L2, and tiles of another length would put them out of step; not last, because the short tiles after them fill up the
// processors. A thread block draws its next ticket shortly before it needs it: which block works on a tile varies from
// run to run, what is computed for the tile never does.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/tile_walk.h"
#include "kernels/cuda/sm90/attention_arguments.h"

namespace jenga::cuda::sm90 {

struct TilePlan {
  QueryBlock block;  // batch -1: no tile left
  UnitCounts units;
  uint64_t tail_units;                // bit u: cells 128 u .. 128 u + 127 hold a dropped one
  int32_t token[kTileRows];           // raster row of every query row, -1 past the end
  uint32_t kept[kMaxTailCells / 32];  // bitset of kept key blocks, built only where there is a tail
};

}  // namespace jenga::cuda::sm90
