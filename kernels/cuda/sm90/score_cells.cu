// The masses of select_blocks on Hopper's tensor cores (passes: common/score_passes.h).
//
// A thread block of two warpgroups takes 128 query cells of one head, which stay in shared memory; key cells pass
// through it 128 at a time, in two stages. Two thread blocks share a multiprocessor: while one multiplies, the other
// takes exponentials. Query cell 2 r + i of a warp's sixteen stands in row r + 8 i, so that a thread has two
// neighbours.
#include "kernels/cuda/common/score_passes.h"
#include "kernels/cuda/sm90/score_kernels.h"
#include "kernels/cuda/sm90/wgmma.h"

namespace jenga::cuda::sm90 {
namespace {

using score::kStages;
using score::kThreads;
using score::kTile;
using score::kTilePanelBytes;
using score::tile_bytes;
constexpr int kSlots = 2;               // query cells of a thread
constexpr int kThreadKeys = kTile / 4;  // key cells of a stage that one thread holds

// 128 rows of cells into panels: row r takes cell cell_of_row(r); zeros where there is none.
template <class T, int kHeadDim, class CellOfRow>
__device__ __forceinline__ void load_cells(uint8_t* shared, const T* cells, int num_cells, CellOfRow cell_of_row) {
  constexpr int kChunks = kHeadDim / 8;
#pragma unroll
  for (int i = 0; i < kTile * kChunks / kThreads; ++i) {
    const int index = threadIdx.x + i * kThreads, row = index / kChunks, chunk = index % kChunks;
    const int cell = cell_of_row(row);
    const bool valid = cell < num_cells;
    const T* source = cells + (valid ? static_cast<int64_t>(cell) * kHeadDim + chunk * 8 : 0);
    uint8_t* target = shared + chunk / 8 * kTilePanelBytes + row * kPanelRowBytes + ((chunk % 8) ^ (row % 8)) * 16;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(target)), "l"(source),
                 "r"(valid ? 16 : 0)
                 : "memory");
  }
  asm volatile("cp.async.commit_group;" ::: "memory");
}

template <class T, int kHeadDim>
__device__ __forceinline__ void multiply(float (&logits)[kSlots * kThreadKeys], const uint8_t* q, const uint8_t* k) {
  const uint64_t q_base = panel_descriptor(q, 0), k_base = panel_descriptor(k, 0);
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
    const uint64_t offset = descriptor_step(step / 4 * kTilePanelBytes + step % 4 * 32);  // 16 channels are 32 bytes
    wgmma_scores<T>(logits, q_base + offset, k_base + offset, step);
  }
  wgmma_commit();
  wgmma_wait<0>();
  pin_registers(logits);
}

template <class T, int kHeadDim, bool kMasses>
__device__ __forceinline__ void score_cells(const ScoreArguments& args) {
  extern __shared__ uint8_t dynamic_shared[];
  uint8_t* const shared_q = dynamic_shared + (1024 - shared_address(dynamic_shared) % 1024) % 1024;
  uint8_t* const shared_k = shared_q + tile_bytes(kHeadDim);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = warp / 4;
  const int64_t head = blockIdx.x / args.tiles_per_head;
  const int first_row = static_cast<int>(blockIdx.x % args.tiles_per_head) * kTile;
  const int first_q = first_row + warp * 16 + lane / 4 * kSlots;
  const T* q_means = static_cast<const T*>(args.q_means) + head * args.num_q_cells * kHeadDim;
  const T* k_means = static_cast<const T*>(args.k_means) + head * args.num_k_cells * kHeadDim;
  const int tiles = (args.num_k_cells + kTile - 1) / kTile;
  const auto load_keys = [&](int tile) {
    load_cells<T, kHeadDim>(shared_k + tile % kStages * tile_bytes(kHeadDim), k_means, args.num_k_cells,
                            [&](int row) { return tile * kTile + key_of_column<kThreadKeys>(row); });
  };

  load_cells<T, kHeadDim>(shared_q, q_means, args.num_q_cells,
                          [&](int row) { return first_row + row / 16 * 16 + row % 8 * kSlots + row / 8 % 2; });
  load_keys(0);
  Rows<kSlots, kMasses> rows;
  rows.begin(args, head, first_q);
  for (int tile = 0; tile < tiles; ++tile) {
    // The products read through the async proxy: each writer fences its own copies, then all meet.
    asm volatile("cp.async.wait_all;\nfence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (tile + 1 < tiles) load_keys(tile + 1);
    Logits<kSlots, kThreadKeys> logits;
    multiply<T, kHeadDim>(logits.sums, shared_q + group * 64 * kPanelRowBytes,
                          shared_k + tile % kStages * tile_bytes(kHeadDim));
    rows.add(args, logits, head, first_q, tile * kTile + lane % 4 * kThreadKeys, tile == tiles - 1);
  }
  rows.end(args, head, first_q, lane);
}

}  // namespace
}  // namespace jenga::cuda::sm90

namespace jenga::cuda {

#define JENGA_DEFINE_SCORES(name, ...) \
  JENGA_DEFINE_KERNEL_PAIR(name, ScoreArguments, (sm90::score::kThreads, 2), sm90::score_cells, __VA_ARGS__)
#define JENGA_DEFINE_SCORES_OF(dim)                              \
  JENGA_DEFINE_SCORES(jenga_sm90_score_shifts_##dim, dim, false) \
  JENGA_DEFINE_SCORES(jenga_sm90_score_masses_##dim, dim, true)
JENGA_DEFINE_SCORES_OF(64)
JENGA_DEFINE_SCORES_OF(128)

}  // namespace jenga::cuda
