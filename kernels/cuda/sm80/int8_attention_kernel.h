// block_sparse_attention with int8 keys for compute capability 8.0 and newer (formula: kernels/params.h).
//
// The walk of attention_kernel.h with other scores: queries arrive in 16 bits, are rotated, become codes with a scale a
// row in shared memory, and are multiplied in int8. Keys of a unit share one scale: with that of the row and the
// softmax scale it is one factor of a row, and a sum takes one multiplication on its way to a weight. Sums of units
// with a bias become scores first. The running maximum is in units of scores in both. Values and probabilities stay in
// 16 bits. A query's product with the center of the keys is kept for lse alone.
//
// Shared memory: int8_shape.h. Before they become codes, the 16-bit queries lie over the codes and the first pair.
#pragma once

#include "kernels/cuda/common/hadamard.h"
#include "kernels/cuda/common/quantise.h"
#include "kernels/cuda/sm80/int8_copies.h"
#include "kernels/cuda/sm80/int8_shape.h"
#include "kernels/cuda/sm80/warp_tile.h"

namespace jenga::cuda::sm80 {

// A warp's rows with scores out of int8 queries and keys. Rest: what is done once scores are there.
template <class T, class Shape, class Rest = WarpTile<T, typename Shape::Queries>>
struct Int8Tile : Rest {
  static constexpr int kRowGroups = Shape::Queries::kRowGroups, kSteps = Shape::kSteps;
  // An int32 sum below 2^22 in magnitude, added to this, is the bits of the float 1.5 * 2^23 + sum. Units without a
  // bias leave that offset on the sums: exponents take it off, in the same fmaf as the largest score and so rounded
  // with it, by two units of the sums at most.
  static constexpr int32_t kFloatBits = 0x4B400000;
  static constexpr float kFloatOffset = 12582912.f;
  static_assert(127 * 127 * Shape::kHeadDim < 1 << 22);
  const FragmentAddress<typename Shape::Codes> query_address, key_address;

  __device__ Int8Tile(int warp, int lane)
      : Rest(lane), query_address(lane, 3, 4, warp * kRowGroups * 16), key_address(lane, 4, 3) {}

  // Row i of group g of this thread, in the tile.
  __device__ static int tile_row(int warp, int lane, int g, int i) {
    return (warp * kRowGroups + g) * 16 + lane / 4 + 8 * i;
  }

  // 16-bit queries to codes over them. center: of this head. Of every row of the tile, scale and product
  // with the center are left in shared memory. All threads of the block.
  __device__ __forceinline__ void quantise_queries(uint8_t* shared, const float* center, float* row_scales,
                                                   float* center_products, int head_dim, int warp, int lane) {
    uint32_t codes[kRowGroups][2][2 * kSteps];
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = tile_row(warp, lane, g, i);
        float x[2 * kSteps][4], product = 0.f;  // channels 16 part + 4 (lane % 4) .. + 3
#pragma unroll
        for (int part = 0; part < 2 * kSteps; ++part) {
          const int chunk = 2 * part + lane % 4 / 2, channel = 16 * part + 4 * (lane % 4);
          const uint2 packed =
              *reinterpret_cast<const uint2*>(shared + Shape::Queries::offset(row, chunk) + lane % 2 * 8);
          const float2 low = unpack_pair<T>(packed.x), high = unpack_pair<T>(packed.y);
          x[part][0] = low.x, x[part][1] = low.y, x[part][2] = high.x, x[part][3] = high.y;
          if (channel >= head_dim) continue;
          const float4 c = *reinterpret_cast<const float4*>(center + channel);
          product = fmaf(x[part][0], c.x, fmaf(x[part][1], c.y, fmaf(x[part][2], c.z, fmaf(x[part][3], c.w, product))));
        }
        hadamard_in_turn<4>(x, static_cast<int>(rotation_size(head_dim)));
        const float scale = quad_max(largest_magnitude(x)) / kInt8Max, inverse = inverse_of(scale);
        product = quad_sum(product);
        if (lane % 4 == 0) {
          row_scales[row] = scale;
          center_products[row] = product;
        }
#pragma unroll
        for (int part = 0; part < 2 * kSteps; ++part)
          codes[g][i][part] =
              int8_codes(x[part][0] * inverse, x[part][1] * inverse, x[part][2] * inverse, x[part][3] * inverse);
      }
    }
    __syncthreads();  // everybody has read
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int part = 0; part < 2 * kSteps; ++part) {
          const uint32_t offset = Shape::Codes::offset(tile_row(warp, lane, g, i), part) + lane % 4 * 4;
          *reinterpret_cast<uint32_t*>(shared + offset) = codes[g][i][part];
        }
      }
    }
  }

  // scores: sums of products of codes, kFloatOffset added.
  __device__ __forceinline__ void score(uint32_t queries, uint32_t keys) {
    int32_t sums[kRowGroups][kUnitKeys / 2];
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
#pragma unroll
      for (int32_t& sum : sums[g]) sum = kFloatBits;
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t q[kRowGroups][4];
#pragma unroll
      for (int g = 0; g < kRowGroups; ++g) load_matrices(q[g], query_address(queries, g, step));
#pragma unroll
      for (int group = 0; group < kUnitKeys / 16; ++group) {
        uint32_t k[4];
        load_matrices(k, key_address(keys, group, step));
#pragma unroll
        for (int g = 0; g < kRowGroups; ++g) {
          multiply_add_int8(sums[g] + 8 * group, q[g], k[0], k[1]);
          multiply_add_int8(sums[g] + 8 * group + 4, q[g], k[2], k[3]);
        }
      }
    }
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
#pragma unroll
      for (int n = 0; n < kUnitKeys / 2; ++n) this->scores[g][n] = __int_as_float(sums[g][n]);
    }
  }

  // What score() leaves to weights. row_scales: of the tile's rows. bias: of the unit's keys, whose scale is behind it;
  // without one sums become weights without being scores.
  __device__ __forceinline__ void weigh(bool biased, const float* bias, const float* row_scales, float scale_log2) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
      float(&scores)[kUnitKeys / 2] = this->scores[g];
      const float key_scale = bias[kUnitKeys];
      const float unit[2] = {row_scales[tile_row(warp, lane, g, 0)] * key_scale,
                             row_scales[tile_row(warp, lane, g, 1)] * key_scale};
      float found[2];
      if (biased) {
        score_sums(scores, unit, bias, lane);
#pragma unroll
        for (int i = 0; i < 2; ++i) found[i] = largest_score(scores, i, -INFINITY);
        this->weigh_values(g, found, {1.f, 1.f}, 0.f, scale_log2);
      } else {
#pragma unroll
        for (int i = 0; i < 2; ++i) found[i] = (largest_sum(scores, i) - kFloatOffset) * unit[i];
        this->weigh_values(g, found, unit, kFloatOffset, scale_log2);
      }
    }
  }

  // Of row i; all are above 0, and so their bits are in the same order.
  __device__ static float largest_sum(const float (&sums)[kUnitKeys / 2], int i) {
    int32_t top = __float_as_int(sums[2 * i]);
#pragma unroll
    for (int j = 0; j < kUnitKeys / 8; ++j)
      top = largest(top, __float_as_int(sums[4 * j + 2 * i]), __float_as_int(sums[4 * j + 2 * i + 1]));
    return __int_as_float(top);
  }

  // To scores. unit: of a sum, by row.
  __device__ static void score_sums(float (&sums)[kUnitKeys / 2], const float (&unit)[2], const float* bias, int lane) {
#pragma unroll
    for (int j = 0; j < kUnitKeys / 8; ++j) {
      const float2 of_keys = *reinterpret_cast<const float2*>(bias + 8 * j + 2 * (lane % 4));
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float& value = sums[4 * j + e];
        value = fmaf(value - kFloatOffset, unit[e / 2], e % 2 == 0 ? of_keys.x : of_keys.y);
      }
    }
  }

  // What every logit lost with the center, for lse.
  __device__ __forceinline__ void add_center_product(const float* center_products, int warp, int lane) {
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
#pragma unroll
      for (int i = 0; i < 2; ++i) this->state[g].max[i] += center_products[tile_row(warp, lane, g, i)];
    }
  }
};

// Shape: Int8Shape, or one that has its members. Tile: an Int8Tile of its head dim.
template <class Shape, class Tile>
__device__ __forceinline__ void attend_codes(const AttentionArguments& args) {
  extern __shared__ __align__(1024) uint8_t dynamic_shared[];
  const uint32_t queries = shared_address(dynamic_shared);
  float* bias = reinterpret_cast<float*>(dynamic_shared + Shape::kCodeBytes + Shape::ring_bytes(args.slots));
  float* row_scales = bias + 2 * kUnitWords;
  float* center_products = row_scales + Shape::kTileRows;
  HeadSources& sources = *reinterpret_cast<HeadSources*>(center_products + Shape::kTileRows);
  TilePlan& plan = *reinterpret_cast<TilePlan*>(&sources + 1);
  uint32_t* kept = reinterpret_cast<uint32_t*>(&plan + 1);

  const BlockSparseAttentionParams& p = args.walk.params;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  plan_tile<typename Shape::Queries>(args.walk, plan, kept);
  const int num_units = plan.units.all(), biased_units = plan.units.biased();
  const float scale_log2 = p.softmax_scale * kLog2E;

  if (threadIdx.x == 0) sources = find_sources<Shape>(args.walk, plan.block);
  copy_queries<typename Shape::Queries>(p, plan, queries);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  Tile tile(warp, lane);
  const int64_t head = plan.block.batch * p.heads + plan.block.head;
  tile.quantise_queries(dynamic_shared, p.k_center + head * p.head_dim, row_scales, center_products,
                        static_cast<int>(p.head_dim), warp, lane);

  Int8CopyQueue<Shape> copies{args, plan, kept, sources, queries + Shape::kCodeBytes, bias, {}, 2 * num_units};
  copies.reader.next_block(plan);
  for (int slot = 1; slot < args.slots; ++slot) copies.fill_next_slot();

  int slot = 0;
  for (int unit = 0; unit < num_units; ++unit) {
    copies.next_slot();
    tile.score(queries, copies.slot_address(slot));
    tile.weigh(unit < biased_units, bias + (unit & 1) * kUnitWords, row_scales, scale_log2);
    copies.next_slot();
    tile.accumulate(copies.slot_address(Shape::slot_of_values(slot, args.slots)));
    slot = Shape::next_slot_of_keys(slot, args.slots);
  }
  const unsigned thread = tile.thread_at_end(threadIdx.x);
  tile.add_center_product(center_products, thread / 32, thread % 32);
  tile.finish(p, plan.block.batch * p.heads + plan.block.head, thread % 32);
  tile.store(p, plan, thread / 32, thread % 32);
}

template <class T, int kHeadDim>
__device__ __forceinline__ void attend_int8(const AttentionArguments& args) {
  attend_codes<Int8Shape<kHeadDim>, Int8Tile<T, Int8Shape<kHeadDim>>>(args);
}

}  // namespace jenga::cuda::sm80

// Both kernels of a head dim; one file each, so that they build in parallel.
#define JENGA_DEFINE_SM80_INT8_ATTENTION(dim)                                                              \
  namespace jenga::cuda {                                                                                  \
  JENGA_DEFINE_KERNEL_PAIR(jenga_sm80_int8_attention_##dim, sm80::AttentionArguments, (sm80::kThreads, 2), \
                           sm80::attend_int8, dim)                                                         \
  }
