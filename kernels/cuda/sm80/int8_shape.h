// Shared memory of the kernels with int8 keys: codes of the queries, pairs of slots, bias and scales of two units,
// center products of the tile's rows; behind them plan and kept blocks. Read by the launch and by the kernel.
#pragma once

#include "kernels/cuda/sm80/shape.h"

namespace jenga::cuda::sm80 {

template <int kHeadDim>
struct Int8Shape {
  static_assert(kHeadDim % 64 == 0 && kHeadDim <= kMaxInt8HeadDim);
  using Queries = TileShape<kHeadDim>;    // as they come; values too
  using Codes = TileShape<kHeadDim / 2>;  // a row of codes is as long as one of half as many 16-bit channels
  static constexpr int kTileRows = Queries::kTileRows;
  static constexpr int kCodeBytes = kTileRows * Codes::kRowBytes;
  static constexpr int kPairBytes = Codes::kUnitBytes + Queries::kUnitBytes;
  static_assert(Queries::kTileBytes <= kCodeBytes + kPairBytes, "queries that wait for their codes fit over both");
  static constexpr int kSteps = kHeadDim / 32;  // of a product

  // Bytes in front of the plan.
  static constexpr int64_t plan_offset(int64_t slots) {
    return kCodeBytes + slots / 2 * kPairBytes + (4 * kUnitKeys + 2 * kTileRows) * int64_t{sizeof(float)};
  }
};

}  // namespace jenga::cuda::sm80
