// The consumers of a scoring kernel: a warpgroup multiplies its 64 query cells, which stay in registers, with a stage
// of key cells and passes over the logits (common/score_passes.h). The groups run freely: while one takes
// exponentials, others multiply.
//
// Query cell 2 r + i of a warp's sixteen stands in row r + 8 i, so that a thread has two neighbours.
#pragma once

#include "kernels/cuda/common/score_passes.h"
#include "kernels/cuda/sm90/score_storage.h"

namespace jenga::cuda::sm90::score {

// The thread's two query cells from `first` on, as the products want their left side; zeros where there is none.
// cells: of the head.
template <class T, int kHeadDim>
__device__ __forceinline__ void load_queries(uint32_t (&q)[kHeadDim / 16][4], const T* cells, int first, int num_cells,
                                             int lane) {
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int cell = first + e % 2, channel = step * 16 + lane % 4 * 2 + e / 2 * 8;
      const T* source = cells + static_cast<int64_t>(cell) * kHeadDim + channel;
      q[step][e] = cell < num_cells ? *reinterpret_cast<const uint32_t*>(source) : 0u;
    }
  }
}

// keys: the descriptor of a stage.
template <class T, int kSteps>
__device__ __forceinline__ void multiply(float (&logits)[kThreadSlots * kThreadKeys], const uint32_t (&q)[kSteps][4],
                                         uint64_t keys) {
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {  // 16 channels are 32 bytes
    const uint32_t offset = step / 4 * kStageKeys * kPanelRowBytes + step % 4 * 32;
    wgmma_scores<T>(logits, q[step], keys + descriptor_step(offset), step);
  }
  wgmma_commit();
  wgmma_wait<0>();
  pin_registers(logits);
}

template <class T, int kHeadDim, bool kMasses>
__device__ __forceinline__ void consume(const ScoreArguments& args, ScoreStorage<kHeadDim>& shared, int group) {
  const int lane = threadIdx.x % 32;
  const int row = group * 64 + threadIdx.x / 32 % 4 * 16 + lane / 4 * kThreadSlots;
  const int last_stage = (args.num_k_cells - 1) / kStageKeys;
  const uint64_t keys = panel_descriptor(shared.keys, 0);
  RingPosition<kStages> ring;
  for_each_row_tile(args, [&](const RowTile& tile) {
    const T* cells = static_cast<const T*>(args.q_means) + tile.head * args.num_q_cells * kHeadDim;
    const int first_q = tile.first_row + row;
    uint32_t q[kHeadDim / 16][4];
    load_queries<T, kHeadDim>(q, cells, first_q, args.num_q_cells, lane);
    Rows<kThreadSlots, kMasses> rows;
    rows.begin(args, tile.head, first_q);
    for (int stage = tile.first_stage; stage < tile.end_stage; ++stage) {
      Logits<kThreadSlots, kThreadKeys> logits;
      barrier_wait(&shared.full[ring.slot], ring.full_parity);
      multiply<T>(logits.sums, q, keys + descriptor_step(ring.slot * stage_bytes(kHeadDim)));
      if (lane == 0) barrier_arrive(&shared.empty[ring.slot]);
      ring.advance();
      rows.add(args, logits, tile.head, first_q, stage * kStageKeys + lane % 4 * kThreadKeys, stage == last_stage);
    }
    rows.end(args, tile.head, first_q, lane);
  });
}

}  // namespace jenga::cuda::sm90::score
