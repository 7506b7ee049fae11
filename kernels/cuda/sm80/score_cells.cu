// The masses of select_blocks with the instructions of compute capability 8.0 (passes: common/score_passes.h).
//
// A thread block takes 128 query cells (64 above 128 channels) of one head, a warp a quarter of them, whose fragments
// stay in registers; key cells pass through shared memory, 64 at a time.
#include "kernels/cuda/common/score_passes.h"
#include "kernels/cuda/sm80/mma.h"
#include "kernels/cuda/sm80/score_kernels.h"

namespace jenga::cuda::sm80 {
namespace {

// Rows of 64 key cells from `first` on into one stage; row r holds the cell that makes column r of the product belong
// to the thread that has its 15 neighbours.
template <class T, int kHeadDim>
__device__ __forceinline__ void load_keys(const ScoreArguments& args, const T* k_means, int first, uint32_t stage) {
  using Shape = ScoreTile<kHeadDim>;
#pragma unroll
  for (int i = 0; i < kUnitKeys * Shape::kChunks / kThreads; ++i) {
    const int index = threadIdx.x + i * kThreads;
    const int row = index / Shape::kChunks, chunk = index % Shape::kChunks;
    const int cell = first + key_of_column<kThreadKeys>(row);
    const bool valid = cell < args.num_k_cells && chunk * 8 < args.head_dim;
    const T* source = k_means + (valid ? static_cast<int64_t>(cell) * args.head_dim + chunk * 8 : 0);
    copy_async(stage + Shape::offset(row, chunk), source, valid);
  }
}

// fragments[group][step] of the warp's query cells, from `first` on; zeros where there is no cell or channel.
template <class T, int kHeadDim>
__device__ __forceinline__ void load_queries(const ScoreArguments& args, const T* q_means, int first, int lane,
                                             uint32_t (&q)[ScoreTile<kHeadDim>::kRowGroups][kHeadDim / 16][4]) {
  using Shape = ScoreTile<kHeadDim>;
#pragma unroll
  for (int group = 0; group < Shape::kRowGroups; ++group) {
#pragma unroll
    for (int step = 0; step < Shape::kSteps; ++step) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int cell = first + lane / 4 * Shape::kSlots + group * 2 + e % 2;
        const int channel = step * 16 + lane % 4 * 2 + e / 2 * 8;
        const bool valid = cell < args.num_q_cells && channel < args.head_dim;
        const T* source = q_means + static_cast<int64_t>(cell) * args.head_dim + channel;
        q[group][step][e] = valid ? *reinterpret_cast<const uint32_t*>(source) : 0u;
      }
    }
  }
}

template <class T, int kHeadDim>
__device__ __forceinline__ void multiply(Logits<ScoreTile<kHeadDim>::kSlots, kThreadKeys>& logits, uint32_t stage,
                                         int lane,
                                         const uint32_t (&q)[ScoreTile<kHeadDim>::kRowGroups][kHeadDim / 16][4]) {
  using Shape = ScoreTile<kHeadDim>;
  float sums[Shape::kRowGroups][kUnitKeys / 8][4] = {};
#pragma unroll
  for (int step = 0; step < Shape::kSteps; ++step) {
#pragma unroll
    for (int pair = 0; pair < kUnitKeys / 16; ++pair) {
      uint32_t k[4];
      const int row = pair * 16 + lane / 16 * 8 + lane % 8, chunk = step * 2 + lane / 8 % 2;
      load_matrices(k, stage + Shape::offset(row, chunk));
#pragma unroll
      for (int group = 0; group < Shape::kRowGroups; ++group) {
        multiply_add<T>(sums[group][pair * 2], q[group][step], k[0], k[1]);
        multiply_add<T>(sums[group][pair * 2 + 1], q[group][step], k[2], k[3]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < Shape::kSlots * kThreadKeys; ++i) logits.sums[i] = sums[i / 32][i / 4 % 8][i % 4];
}

template <class T, int kHeadDim, bool kMasses>
__device__ __forceinline__ void score_cells(const ScoreArguments& args) {
  using Shape = ScoreTile<kHeadDim>;
  constexpr int kSlots = Shape::kSlots;
  extern __shared__ __align__(128) uint8_t dynamic_shared[];
  const uint32_t shared = shared_address(dynamic_shared);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t head = blockIdx.x / args.tiles_per_head;
  const int first_row = static_cast<int>(blockIdx.x % args.tiles_per_head) * Shape::kTileRows;
  const int first_q = first_row + (warp * Shape::kRowGroups * 16 + lane / 4 * kSlots);
  const T* k_means = static_cast<const T*>(args.k_means) + head * args.num_k_cells * args.head_dim;
  const int tiles = (args.num_k_cells + kUnitKeys - 1) / kUnitKeys;

#pragma unroll
  for (int stage = 0; stage < Shape::kStages - 1; ++stage) {
    if (stage < tiles) load_keys<T, kHeadDim>(args, k_means, stage * kUnitKeys, shared + stage * Shape::kUnitBytes);
    commit_copies();
  }
  uint32_t q[Shape::kRowGroups][Shape::kSteps][4];
  load_queries<T, kHeadDim>(args, static_cast<const T*>(args.q_means) + head * args.num_q_cells * args.head_dim,
                            first_row + warp * Shape::kRowGroups * 16, lane, q);
  Rows<kSlots, kMasses> rows;
  rows.begin(args, head, first_q);

  int stage = 0, next_stage = Shape::kStages - 1;
  for (int tile = 0; tile < tiles; ++tile) {
    wait_copies<Shape::kStages - 2>();
    __syncthreads();
    const int next = tile + Shape::kStages - 1;
    if (next < tiles) load_keys<T, kHeadDim>(args, k_means, next * kUnitKeys, shared + next_stage * Shape::kUnitBytes);
    commit_copies();
    Logits<kSlots, kThreadKeys> logits;
    multiply<T, kHeadDim>(logits, shared + stage * Shape::kUnitBytes, lane, q);
    const int first_k = tile * kUnitKeys + lane % 4 * kThreadKeys;
    rows.add(args, logits, head, first_q, first_k, tile == tiles - 1);
    stage = stage + 1 == Shape::kStages ? 0 : stage + 1;
    next_stage = next_stage + 1 == Shape::kStages ? 0 : next_stage + 1;
  }
  rows.end(args, head, first_q, lane);
}

}  // namespace
}  // namespace jenga::cuda::sm80

namespace jenga::cuda {

#define JENGA_DEFINE_SCORES(name, dim, ...)                                                             \
  JENGA_DEFINE_KERNEL_PAIR(name, ScoreArguments, (sm80::kThreads, sm80::ScoreTile<dim>::kThreadBlocks), \
                           sm80::score_cells, dim, __VA_ARGS__)
#define JENGA_DEFINE_SCORES_OF(dim)                              \
  JENGA_DEFINE_SCORES(jenga_sm80_score_shifts_##dim, dim, false) \
  JENGA_DEFINE_SCORES(jenga_sm80_score_masses_##dim, dim, true)
JENGA_DEFINE_SCORES_OF(32)
JENGA_DEFINE_SCORES_OF(64)
JENGA_DEFINE_SCORES_OF(96)
JENGA_DEFINE_SCORES_OF(128)
JENGA_DEFINE_SCORES_OF(192)
JENGA_DEFINE_SCORES_OF(256)

}  // namespace jenga::cuda
