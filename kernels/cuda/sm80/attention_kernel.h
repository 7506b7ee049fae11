// block_sparse_attention for compute capability 8.0 and newer (formula: kernels/params.h).
//
// A thread block takes one tile and walks its units (kernels/cuda/common/tile_walk.h). K and V of a unit pass through
// the ring of copies.h; one barrier a slot frees the slot before. Scores, softmax and outputs stay in registers; two
// thread blocks share a multiprocessor, so that the softmax of one runs under the products of the other. Outputs are
// rescaled only where a row maximum of the warp has grown.
#pragma once

#include "kernels/cuda/sm80/copies.h"
#include "kernels/cuda/sm80/warp_tile.h"

namespace jenga::cuda::sm80 {

// A warp's rows with scores out of 16-bit queries and keys.
template <class T, class Shape>
struct ScoredTile : WarpTile<T, Shape> {
  static constexpr int kRowGroups = Shape::kRowGroups, kSteps = Shape::kHeadDim / 16;
  const FragmentAddress<Shape> query_address, key_address;
  uint32_t kept_queries[Shape::kQueriesInRegisters ? kSteps : 1][kRowGroups][4];

  __device__ ScoredTile(int warp, int lane)
      : WarpTile<T, Shape>(lane), query_address(lane, 3, 4, warp * kRowGroups * 16), key_address(lane, 4, 3) {}

  __device__ __forceinline__ void keep_queries(uint32_t queries) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int g = 0; g < kRowGroups; ++g) load_matrices(kept_queries[step][g], query_address(queries, g, step));
    }
  }

  // scores = Q K^T
  __device__ __forceinline__ void score(uint32_t queries, uint32_t keys) {
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
#pragma unroll
      for (float& value : this->scores[g]) value = 0.f;
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t q[kRowGroups][4];
#pragma unroll
      for (int g = 0; g < kRowGroups; ++g) {
        if constexpr (Shape::kQueriesInRegisters) {
#pragma unroll
          for (int e = 0; e < 4; ++e) q[g][e] = kept_queries[step][g][e];
        } else {
          load_matrices(q[g], query_address(queries, g, step));
        }
      }
#pragma unroll
      for (int group = 0; group < Shape::kUnitKeys / 16; ++group) {
        uint32_t k[4];
        load_matrices(k, key_address(keys, group, step));
#pragma unroll
        for (int g = 0; g < kRowGroups; ++g) {
          multiply_add<T>(this->scores[g] + 8 * group, q[g], k[0], k[1]);
          multiply_add<T>(this->scores[g] + 8 * group + 4, q[g], k[2], k[3]);
        }
      }
    }
  }
};

template <class T, class Shape>
__device__ __forceinline__ void attend(const AttentionArguments& args) {
  constexpr int kUnitKeys = Shape::kUnitKeys;
  extern __shared__ __align__(1024) uint8_t dynamic_shared[];
  const uint32_t queries = shared_address(dynamic_shared);
  const uint32_t ring = queries + Shape::kTileBytes;
  float* bias = reinterpret_cast<float*>(dynamic_shared + Shape::kTileBytes + args.slots * Shape::kUnitBytes);
  TilePlan& plan = *reinterpret_cast<TilePlan*>(bias + 2 * kUnitKeys);
  uint32_t* kept = reinterpret_cast<uint32_t*>(&plan + 1);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  plan_tile<Shape>(args.walk, plan, kept);
  const int num_units = plan.units.all(), biased_units = plan.units.biased();
  const float scale_log2 = args.walk.params.softmax_scale * kLog2E;

  CopyQueue<Shape> copies{args, plan, kept, ring, bias, {}, 2 * num_units};
  copies.reader.next_block(plan);
  copy_queries<Shape>(args.walk.params, plan, queries);
  copies.fill_next_slot();
  if (args.slots == 3) copies.fill_next_slot();

  ScoredTile<T, Shape> tile(warp, lane);
  int slot = 0;
  for (int unit = 0; unit < num_units; ++unit) {
    copies.next_slot();
    if constexpr (Shape::kQueriesInRegisters) {
      if (unit == 0) tile.keep_queries(queries);
    }
    tile.score(queries, ring + slot * Shape::kUnitBytes);
    tile.weigh(unit < biased_units ? bias + unit % 2 * kUnitKeys : nullptr, scale_log2, lane);
    slot = slot + 1 == args.slots ? 0 : slot + 1;
    copies.next_slot();
    tile.accumulate(ring + slot * Shape::kUnitBytes);
    slot = slot + 1 == args.slots ? 0 : slot + 1;
  }
  tile.store(args.walk.params, plan, warp, lane);
}

}  // namespace jenga::cuda::sm80

// Both kernels of a shape, name_bf16 and name_fp16; one file each, so that they build in parallel.
#define JENGA_DEFINE_MMA_ATTENTION(name, ...)                                                              \
  namespace jenga::cuda {                                                                                  \
  JENGA_DEFINE_KERNEL_PAIR(name, sm80::AttentionArguments, (sm80::kThreads, 2), sm80::attend, __VA_ARGS__) \
  }
