// Shared memory of the kernels with int8 keys: codes of the queries, pairs of slots, bias and scale of two units,
// scales and center products of the tile's rows, sources; behind them plan and kept blocks. Read by the launch and by
// the kernel.
#pragma once

#include "kernels/cuda/sm80/shape.h"

namespace jenga::cuda::sm80 {

inline constexpr int64_t kSourceBytes = 80;  // of HeadSources
// Bias of a unit's keys, then their one scale, and a word that keeps what follows on 8 bytes.
inline constexpr int kUnitWords = kUnitKeys + 2;

template <int kDim, int kGroups = 2>
struct Int8Shape {
  static constexpr int kHeadDim = kDim;
  static_assert(kHeadDim % 64 == 0 && kHeadDim <= kMaxInt8HeadDim);
  using Queries = TileShape<kHeadDim, kUnitKeys, kGroups>;  // as they come; values too
  using Codes = TileShape<kHeadDim / 2>;  // a row of codes is as long as one of half as many 16-bit channels
  static constexpr int kTileRows = Queries::kTileRows;
  static constexpr int kCodeBytes = kTileRows * Codes::kRowBytes;
  static constexpr int kPairBytes = Codes::kUnitBytes + Queries::kUnitBytes;
  static_assert(Queries::kTileBytes <= kCodeBytes + kPairBytes, "queries that wait for their codes fit over both");
  static constexpr int kSteps = kHeadDim / 32;  // of a product

  // Slots come in pairs, for the keys and for the values of a unit.
  static constexpr int kMostSlots = 4;
  static constexpr bool kValuesInBlocks = false;  // of kernels/value_blocks.h
  static constexpr int ring_bytes(int slots) { return slots / 2 * kPairBytes; }
  static constexpr uint32_t slot_offset(uint32_t slot) { return slot / 2 * kPairBytes + slot % 2 * Codes::kUnitBytes; }
  static constexpr int slot_of_values(int slot_of_keys, int) { return slot_of_keys + 1; }
  static constexpr int next_slot_of_keys(int slot, int slots) { return slot + 2 == slots ? 0 : slot + 2; }

  // Bytes in front of the plan.
  static constexpr int64_t plan_offset(int64_t slots) { return bytes_with_ring(ring_bytes(static_cast<int>(slots))); }

 protected:
  static constexpr int64_t bytes_with_ring(int64_t ring) {
    return kCodeBytes + ring + 2 * (kUnitWords + kTileRows) * int64_t{sizeof(float)} + kSourceBytes;
  }
};

}  // namespace jenga::cuda::sm80
