// block_sparse_attention for compute capability 8.0 and newer (formula: kernels/params.h).
//
// A thread block takes one tile and walks its units (kernels/cuda/common/tile_walk.h). K and V of a unit pass through
// the ring of copies.h; one barrier a slot frees the slot before. Scores, softmax and outputs stay in registers; two
// thread blocks share a multiprocessor, so that the softmax of one runs under the products of the other. Outputs are
// rescaled only where a row maximum of the warp has grown.
#pragma once

#include "kernels/cuda/common/epilogue.h"
#include "kernels/cuda/common/softmax.h"
#include "kernels/cuda/sm80/copies.h"

namespace jenga::cuda::sm80 {

// Shared-memory addresses of the fragments that this lane gives to ldmatrix. Bit `chunk_bit` of the lane chooses
// between the two chunks of a 16-channel step, bit `row_bit` between rows 0 .. 7 and 8 .. 15.
template <int kHeadDim>
struct FragmentAddress {
  uint32_t row_offset, chunk_offset;

  __device__ FragmentAddress(int lane, int row_bit, int chunk_bit, int first_row = 0) {
    const int row = first_row + lane % 8 + (lane >> row_bit & 1) * 8;
    row_offset = row * TileShape<kHeadDim>::kRowBytes;
    chunk_offset = ((lane >> chunk_bit & 1) ^ TileShape<kHeadDim>::swizzle(row)) * 16;
  }
  // Of channels 16 step .. 16 step + 15 in row group `group` of 16.
  __device__ uint32_t operator()(uint32_t base, int group, int step) const {
    return base + row_offset + group * 16 * TileShape<kHeadDim>::kRowBytes + (chunk_offset ^ step * 32);
  }
};

// What a warp holds of its 16 or 32 rows (layout of values: softmax.h).
template <class T, int kHeadDim>
struct WarpTile {
  using Shape = TileShape<kHeadDim>;
  static constexpr int kRowGroups = Shape::kRowGroups, kSteps = kHeadDim / 16;
  const FragmentAddress<kHeadDim> query_address, key_address, value_address;
  uint32_t kept_queries[Shape::kQueriesInRegisters ? kSteps : 1][kRowGroups][4];
  float scores[kRowGroups][kUnitKeys / 2];
  uint32_t probabilities[kRowGroups][kUnitKeys / 4];
  float outputs[kRowGroups][kHeadDim / 2] = {};
  RowState state[kRowGroups];

  __device__ WarpTile(int warp, int lane)
      : query_address(lane, 3, 4, warp * kRowGroups * 16), key_address(lane, 4, 3), value_address(lane, 3, 4) {}

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
      for (float& value : scores[g]) value = 0.f;
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
      for (int group = 0; group < kUnitKeys / 16; ++group) {
        uint32_t k[4];
        load_matrices(k, key_address(keys, group, step));
#pragma unroll
        for (int g = 0; g < kRowGroups; ++g) {
          multiply_add<T>(scores[g] + 8 * group, q[g], k[0], k[1]);
          multiply_add<T>(scores[g] + 8 * group + 4, q[g], k[2], k[3]);
        }
      }
    }
  }

  // Scores to probabilities; bias: of the unit's keys, or null.
  __device__ __forceinline__ void weigh(const float* bias, float scale_log2, int lane) {
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
      if (bias != nullptr) add_bias(scores[g], bias, lane);
      float rescale[2];
      update_softmax(scores[g], state[g], rescale, scale_log2);
      if (__any_sync(0xFFFFFFFFu, rescale[0] != 1.f || rescale[1] != 1.f)) rescale_rows(outputs[g], rescale);
      pack_probabilities<T>(probabilities[g], scores[g]);
    }
  }

  // outputs += P V
  __device__ __forceinline__ void accumulate(uint32_t values) {
#pragma unroll
    for (int group = 0; group < kUnitKeys / 16; ++group) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t v[4];
        load_matrices_transposed(v, value_address(values, group, step));
#pragma unroll
        for (int g = 0; g < kRowGroups; ++g) {
          multiply_add<T>(outputs[g] + 8 * step, probabilities[g] + 4 * group, v[0], v[1]);
          multiply_add<T>(outputs[g] + 8 * step + 4, probabilities[g] + 4 * group, v[2], v[3]);
        }
      }
    }
  }

  __device__ __forceinline__ void store(const BlockSparseAttentionParams& p, const TilePlan& plan, int warp, int lane) {
    const int num_rows = static_cast<int>(plan.block.is_context ? p.num_context : p.num_video);
    const int32_t* tokens = p.token_index + (plan.block.is_context ? 0 : p.num_context);
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = plan.first_row + (warp * kRowGroups + g) * 16 + lane / 4 + 8 * i;
        store_row<T, kHeadDim>(p, outputs[g], state[g], i, row < num_rows ? tokens[row] : -1, plan.block.batch,
                               plan.block.head, lane);
      }
    }
  }
};

template <class T, int kHeadDim>
__device__ __forceinline__ void attend(const AttentionArguments& args) {
  using Shape = TileShape<kHeadDim>;
  extern __shared__ __align__(1024) uint8_t dynamic_shared[];
  const uint32_t queries = shared_address(dynamic_shared);
  const uint32_t ring = queries + Shape::kTileBytes;
  float* bias = reinterpret_cast<float*>(dynamic_shared + Shape::kTileBytes + args.slots * Shape::kUnitBytes);
  TilePlan& plan = *reinterpret_cast<TilePlan*>(bias + 2 * kUnitKeys);
  uint32_t* kept = reinterpret_cast<uint32_t*>(&plan + 1);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  plan_tile(args.walk, Shape::kTilesPerBlock, Shape::kTileRows, plan, kept);
  const int num_units = plan.units.all(), biased_units = plan.units.biased();
  const float scale_log2 = args.walk.params.softmax_scale * kLog2E;

  CopyQueue<kHeadDim> copies{args, plan, kept, ring, bias, {}, 2 * num_units};
  copies.reader.prefetch(args.walk, plan, 0);
  copies.copy_queries(queries);
  copies.fill_next_slot();
  if (args.slots == 3) copies.fill_next_slot();

  WarpTile<T, kHeadDim> tile(warp, lane);
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

// Both kernels of a head dim; one file each, so that they build in parallel.
#define JENGA_DEFINE_SM80_ATTENTION(dim)                                                                \
  namespace jenga::cuda {                                                                               \
  JENGA_DEFINE_KERNEL(jenga_sm80_attention_##dim##_bf16, sm80::AttentionArguments, (sm80::kThreads, 2), \
                      sm80::attend<__nv_bfloat16, dim>)                                                 \
  JENGA_DEFINE_KERNEL(jenga_sm80_attention_##dim##_fp16, sm80::AttentionArguments, (sm80::kThreads, 2), \
                      sm80::attend<__half, dim>)                                                        \
  }
