// Who the threads of a scoring kernel are, the shared memory through which they meet, and what a thread block works on.
//
// Warpgroup 0 copies stages of key cells (score_produce.h); the others take 64 query cells each (score_consume.h).
#pragma once

#include "kernels/cuda/common/score_arguments.h"
#include "kernels/cuda/sm90/ring.h"
#include "kernels/cuda/sm90/score_kernels.h"
#include "kernels/cuda/sm90/wgmma.h"

namespace jenga::cuda::sm90::score {

inline constexpr int kThreadSlots = 2;              // query cells of a thread
inline constexpr int kThreadKeys = kStageKeys / 4;  // key cells of a stage that one thread holds

template <int kHeadDim>
struct ScoreStorage {
  uint8_t keys[kStages][stage_bytes(kHeadDim)];  // panels
  Barrier full[kStages], empty[kStages];

  // One thread, before anybody uses the barriers.
  __device__ __forceinline__ void init_barriers() {
    for (int stage = 0; stage < kStages; ++stage) {
      barrier_init(&full[stage], kProducers);
      barrier_init(&empty[stage], kGroups * 4);  // one thread arrives for its warp
    }
    barrier_init_fence();
  }
};
static_assert(sizeof(ScoreStorage<64>) + kPanelAlignment == shared_bytes(64));
static_assert(sizeof(ScoreStorage<128>) + kPanelAlignment == shared_bytes(128));

// A part of a tile of query cells: the first of them, and the stages of key cells that it meets here.
struct RowTile {
  int64_t head;
  int first_row, first_stage, end_stage;
};

// Shares all pairs of a tile of query cells and a stage of key cells out evenly among the thread blocks, in order, and
// visits those of this one. With as many thread blocks as tiles each has one tile and all key cells.
template <class Visit>
__device__ __forceinline__ void for_each_row_tile(const ScoreArguments& args, Visit visit) {
  const int64_t stages = (args.num_k_cells + kStageKeys - 1) / kStageKeys, pairs = args.row_tiles * stages;
  int64_t pair = pairs * blockIdx.x / gridDim.x;
  const int64_t end = pairs * (blockIdx.x + 1) / gridDim.x;
  while (pair < end) {
    const int64_t tile = pair / stages, first = pair - tile * stages;
    const int64_t visited = end - pair < stages - first ? end - pair : stages - first;
    visit(RowTile{tile / args.tiles_per_head, static_cast<int>(tile % args.tiles_per_head) * kRows,
                  static_cast<int>(first), static_cast<int>(first + visited)});
    pair += visited;
  }
}

}  // namespace jenga::cuda::sm90::score
