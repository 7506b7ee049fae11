// Copies of units whose keys are int8 codes. K and V pass through pairs of slots, a K slot half as large as a V slot;
// the one scale of a unit's keys comes with its codes.
//
// A row of codes is as long as a row of half as many 16-bit elements: TileShape<kHeadDim / 2> says where its chunks
// lie.
#pragma once

#include "kernels/cuda/sm80/copies.h"
#include "kernels/cuda/sm80/head_sources.h"
#include "kernels/cuda/sm80/int8_shape.h"

namespace jenga::cuda::sm80 {

// Shape: Int8Shape, or one that has its members; values in blocks come by its own copy_block.
template <class Shape>
struct Int8CopyQueue {
  using Values = typename Shape::Queries;
  using Codes = typename Shape::Codes;
  const AttentionArguments& args;
  const TilePlan& plan;
  const uint32_t* kept;
  const HeadSources& sources;
  uint32_t ring;
  float* bias;  // [2][kUnitWords], of even and odd units
  UnitReader<kUnitKeys> reader;
  int remaining;  // slots' worth not yet asked for, K and V of a unit counted apart
  int slot = 0;   // the next to fill

  __device__ uint32_t slot_address(int number) const { return ring + Shape::slot_offset(number); }

  __device__ void fill_keys() {
    static_assert(kUnitKeys == kKeyScaleRows, "the keys of a unit share a scale");
    float* const words = bias + (reader.unit & 1) * kUnitWords;
    const bool biased = reader.unit < plan.units.biased();
    reader.advance(args.walk, plan, kept);
    if (biased && threadIdx.x < kUnitKeys) words[threadIdx.x] = reader.bias(args.walk, plan, kept, threadIdx.x);
    const HeadRows& keys = sources.keys[reader.is_tail];
    copy_unit<Codes>(slot_address(slot), keys.row(reader.first), keys.stride, reader.num_valid,
                     static_cast<int>(args.walk.params.head_dim) / 2);
    if (threadIdx.x == 0)
      copy_async_word(shared_address(words + kUnitKeys), sources.key_scales[reader.is_tail] + reader.first / kUnitKeys);
  }

  __device__ void fill_values() {
    const HeadRows& values = sources.values[reader.is_tail];
    const uint16_t* const first = values.row(reader.first);
    if constexpr (Shape::kValuesInBlocks) return copy_block(Shape{}, slot_address(slot), first);
    copy_unit<Values>(slot_address(slot), first, values.stride, reader.num_valid,
                      static_cast<int>(args.walk.params.head_dim));
  }

  // Asks for the next K or V; a group of copies is closed even where there is none, so that groups count slots.
  __device__ void fill_next_slot() {
    if (remaining > 0) {
      if (remaining % 2 == 0) {
        fill_keys();
      } else {
        fill_values();
      }
      --remaining;
    }
    commit_copies();
    slot = slot + 1 == args.slots ? 0 : slot + 1;
  }

  // Waits for the oldest copy asked for, then asks for one more: after the barrier nobody reads its slot.
  __device__ void next_slot() {
    if (args.slots == 2) {
      wait_copies<0>();
    } else {
      wait_copies<Shape::kMostSlots - 2>();
    }
    __syncthreads();
    fill_next_slot();
  }
};

}  // namespace jenga::cuda::sm80
