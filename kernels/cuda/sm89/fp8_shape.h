// Tiles and shared memory of the kernels with int8 keys and e4m3 values: as sm80/int8_shape.h, with two differences.
//
// A warp takes 16 query rows: with 32 its registers do not hold the sums of a unit beside those of the row on every
// architecture (it spilled on 9.0, 10.0 and 12.0). Fragments are read twice as often so; on GeForce cards, whose shared
// memory is fast for their tensor cores, 144 of its cycles for a unit of a warp stand beside 400 of the tensor cores.
// Codes of 64 keys and their values are equally long and pass through one ring of 2 or 3 slots; two thread blocks with
// three fit into 100 KB.
#pragma once

#include "kernels/cuda/sm80/int8_shape.h"
#include "kernels/value_blocks.h"

namespace jenga::cuda::sm89 {

inline constexpr int kFp8HeadDim = static_cast<int>(kFloat8HeadDim);

struct Fp8Shape : sm80::Int8Shape<kFp8HeadDim, 1> {
  // A block of values: a row a channel, as long as a row of 32 16-bit channels.
  using Values = sm80::TileShape<kValueBlockKeys / 2>;
  static constexpr int kSlotBytes = Codes::kUnitBytes, kPairBytes = 2 * kSlotBytes;
  static constexpr bool kValuesInBlocks = true;
  static_assert(kSlotBytes == kFp8HeadDim * Values::kRowBytes && sm80::kUnitKeys == kValueBlockKeys);
  static_assert(Queries::kTileBytes <= kCodeBytes + kPairBytes, "queries that wait for their codes fit over both");

  static constexpr int kMostSlots = 3;
  static constexpr int ring_bytes(int slots) { return slots * kSlotBytes; }
  static constexpr uint32_t slot_offset(uint32_t slot) { return slot * kSlotBytes; }
  static constexpr int slot_of_values(int slot, int slots) { return slot + 1 == slots ? 0 : slot + 1; }
  static constexpr int next_slot_of_keys(int slot, int slots) {
    return slot_of_values(slot_of_values(slot, slots), slots);
  }
  static constexpr int64_t plan_offset(int64_t slots) { return bytes_with_ring(ring_bytes(static_cast<int>(slots))); }
};

}  // namespace jenga::cuda::sm89
