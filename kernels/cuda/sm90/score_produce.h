// The producers of a scoring kernel: stages of key cells into shared memory, in the order in which they are met.
//
// The copy engine would not do: column c of a product belongs to key_of_column(c), and cells past the last of a head
// must arrive as zeros.
#pragma once

#include "kernels/cuda/common/score_passes.h"
#include "kernels/cuda/sm90/copy_async.h"
#include "kernels/cuda/sm90/score_storage.h"

namespace jenga::cuda::sm90::score {

inline constexpr int kCopiesAhead = 2;  // stages that are asked for before those of the stage before them are awaited

// This thread's part of a stage. cells: of the head.
template <class T, int kHeadDim>
__device__ __forceinline__ void copy_stage(uint8_t* panels, const T* cells, int first, int num_cells) {
  constexpr int kChunks = kHeadDim / 8, kRowStep = kProducers / kChunks;
  static_assert(kRowStep % 8 == 0);
  const int row = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
  const int cell = first + key_of_column<kThreadKeys>(row);
  const T* source = cells + static_cast<int64_t>(cell) * kHeadDim + chunk * 8;
  uint8_t* target = panels + (chunk / 8 * kStageKeys + row) * kPanelRowBytes + ((chunk % 8) ^ (row % 8)) * 16;
#pragma unroll
  for (int i = 0; i < kStageKeys / kRowStep; ++i) {
    const int ahead = key_of_column<kThreadKeys>(i * kRowStep);
    const bool valid = cell + ahead < num_cells;
    copy_async_16(target + i * kRowStep * kPanelRowBytes, valid ? source + ahead * kHeadDim : cells, valid);
  }
  commit_copies();
}

template <class T, int kHeadDim>
__device__ __forceinline__ void produce(const ScoreArguments& args, ScoreStorage<kHeadDim>& shared) {
  RingPosition<kStages> asked, landed;
  int under_way = 0;
  for_each_row_tile(args, [&](const RowTile& tile) {
    const T* cells = static_cast<const T*>(args.k_means) + tile.head * args.num_k_cells * kHeadDim;
    for (int stage = tile.first_stage; stage < tile.end_stage; ++stage) {
      barrier_wait(&shared.empty[asked.slot], asked.empty_parity());
      copy_stage<T, kHeadDim>(shared.keys[asked.slot], cells, stage * kStageKeys, args.num_k_cells);
      asked.advance();
      if (++under_way <= kCopiesAhead) continue;
      wait_for_copies_but<kCopiesAhead>();
      fence_async_proxy();
      barrier_arrive(&shared.full[landed.slot]);
      landed.advance();
      --under_way;
    }
  });
  wait_for_copies();
  fence_async_proxy();
  for (; under_way > 0; --under_way) {
    barrier_arrive(&shared.full[landed.slot]);
    landed.advance();
  }
}

}  // namespace jenga::cuda::sm90::score
