// Sizes of tiles and units by head dim, and where a 16-byte chunk of a row stands in shared memory.
//
// A warp takes 32 query rows, so that every key fragment it reads serves two matrix instructions; above 128 channels
// the accumulators leave room for 16 rows only. Rows are swizzled by chunk, so that the eight rows ldmatrix reads at a
// time lie in different banks.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/layout.h"

namespace jenga::cuda::sm80 {

inline constexpr int kThreads = 128;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kUnitKeys = 64;  // of a unit where a kernel does not say otherwise

// kKeys: of a unit. Fewer take less shared memory (kernels/cuda/sm86/shape.h). kGroups: of 16 query rows, per warp.
template <int kDim, int kKeys = jenga::cuda::sm80::kUnitKeys, int kGroups = kDim <= 128 ? 2 : 1>
struct TileShape {
  static constexpr int kHeadDim = kDim, kUnitKeys = kKeys;
  static_assert(kHeadDim % 32 == 0 && kHeadDim <= 256 && kUnitKeys % 16 == 0 && kUnitKeys <= 64);
  static constexpr int kRowGroups = kGroups;
  static constexpr int kTileRows = kWarps * kRowGroups * 16;
  static constexpr int kTilesPerBlock = kQueryBlockRows / kTileRows;
  static constexpr int kRowBytes = kHeadDim * 2;
  static constexpr int kChunks = kHeadDim / 8;
  static constexpr int kTileBytes = kTileRows * kRowBytes;
  static constexpr int kUnitBytes = kUnitKeys * kRowBytes;
  static constexpr bool kQueriesInRegisters = kHeadDim <= 64;

  // What is added to the chunk number of a row by exclusive or; the same for rows that are 8 apart.
  static constexpr int swizzle(int row) { return kChunks % 8 == 0 ? row % 8 : row / 2 % 4; }
  static constexpr uint32_t offset(int row, int chunk) { return row * kRowBytes + (chunk ^ swizzle(row)) * 16; }
  // Bytes of shared memory in front of the plan: queries, slots of the ring, bias of two units.
  static constexpr int64_t plan_offset(int64_t slots) {
    return kTileBytes + slots * kUnitBytes + 2 * kUnitKeys * int64_t{sizeof(float)};
  }
};

}  // namespace jenga::cuda::sm80
