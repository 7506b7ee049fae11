// block_sparse_attention for compute capability 8.0 and newer (formula: kernels/params.h).
//
// A thread block takes one query tile and walks its key units (key_units.h). K and V tiles pass in turn through one
// ring of 2 or 3 shared-memory slots that cp.async fills ahead; one barrier a tile frees the slot of the tile before.
// Scores, softmax and outputs stay in registers; two thread blocks share a multiprocessor, so that the softmax of one
// runs under the products of the other. Outputs are rescaled only where a row maximum of the warp has grown.
#pragma once

#include "kernels/cuda/common/epilogue.h"
#include "kernels/cuda/sm80/key_units.h"
#include "kernels/cuda/sm80/mma.h"
#include "kernels/cuda/sm80/softmax.h"

namespace jenga::cuda::sm80 {

// Rows first .. of a [.., head_dim] operand into a tile; rows from num_valid on and channels past head_dim are zeros.
template <int kHeadDim>
__device__ __forceinline__ void copy_unit(uint32_t target, const uint16_t* source, int64_t stride, int num_valid,
                                          int head_dim) {
  using Shape = Tile<kHeadDim>;
  constexpr int kCopies = kUnitKeys * Shape::kChunks / kThreads;
  if constexpr (kThreads % Shape::kChunks == 0) {
    constexpr int kRowStep = kThreads / Shape::kChunks;
    static_assert(kRowStep % 8 == 0 || kRowStep == 4, "the swizzle must repeat");
    const int row = threadIdx.x / Shape::kChunks, chunk = threadIdx.x % Shape::kChunks;
    const bool in_row = chunk * kVectorElements < head_dim;
    source += row * stride + chunk * kVectorElements;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      copy_async(target + Shape::offset(row + i * kRowStep, chunk), source, in_row && row + i * kRowStep < num_valid);
      source += kRowStep * stride;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int index = threadIdx.x + i * kThreads;
      const int row = index / Shape::kChunks, chunk = index % Shape::kChunks;
      copy_async(target + Shape::offset(row, chunk), source + row * stride + chunk * kVectorElements,
                 chunk * kVectorElements < head_dim && row < num_valid);
    }
  }
}

// The copies of one query tile: its queries, then K and V of every unit in turn.
template <int kHeadDim>
struct CopyQueue {
  using Shape = Tile<kHeadDim>;
  const AttentionArguments& args;
  const TilePlan& plan;
  const uint32_t* kept;
  uint32_t ring;
  float* bias;  // [2][kUnitKeys], of even and odd units
  UnitReader reader;
  int remaining;  // tiles not yet asked for, K and V counted apart
  int slot = 0;   // the next to fill

  __device__ void copy_queries(uint32_t target) const {
    const BlockSparseAttentionParams& p = args.params;
    const uint16_t* q =
        static_cast<const uint16_t*>(p.q) + plan.batch * p.q_strides.batch + plan.head * p.q_strides.head;
    const int32_t* tokens = p.token_index + (plan.is_context ? 0 : p.num_context);
    const int num_rows = static_cast<int>(plan.is_context ? p.num_context : p.num_video) - plan.first_row;
#pragma unroll
    for (int i = 0; i < Shape::kQueryRows * Shape::kChunks / kThreads; ++i) {
      const int index = threadIdx.x + i * kThreads;
      const int row = index / Shape::kChunks, chunk = index % Shape::kChunks;
      const int64_t token = row < num_rows ? tokens[plan.first_row + row] : 0;
      copy_async(target + Shape::offset(row, chunk), q + token * p.q_strides.token + chunk * kVectorElements,
                 row < num_rows && chunk * kVectorElements < p.head_dim);
    }
  }

  // Asks for the next tile; a group of copies is closed even where there is none, so that groups count tiles.
  __device__ void fill_next_slot() {
    if (remaining > 0) {
      const BlockSparseAttentionParams& p = args.params;
      const bool is_key = remaining % 2 == 0;
      if (is_key) {
        const bool biased = reader.unit < plan.biased_units();
        reader.advance(args, plan, kept);
        if (biased && threadIdx.x < kUnitKeys)
          bias[(reader.unit - 1) % 2 * kUnitKeys + threadIdx.x] =
              reader.bias(args, plan, kept, threadIdx.x) / p.softmax_scale;
      }
      const void* rows = is_key ? p.k_carved : p.v_carved;
      const Strides& strides = is_key ? p.k_strides : p.v_strides;
      int64_t stride = strides.token;
      int64_t start = plan.batch * strides.batch + plan.head * strides.head;
      if (reader.is_tail) {
        rows = is_key ? p.k_tail : p.v_tail;
        stride = p.head_dim;
        start = (plan.batch * p.heads + plan.head) * args.num_tail_cells * p.head_dim;
      }
      copy_unit<kHeadDim>(ring + slot * Shape::kUnitBytes,
                          static_cast<const uint16_t*>(rows) + start + reader.first * stride, stride, reader.num_valid,
                          static_cast<int>(p.head_dim));
      --remaining;
    }
    commit_copies();
    slot = slot + 1 == args.stages ? 0 : slot + 1;
  }

  // Waits for the oldest tile asked for, then asks for one more: after the barrier nobody reads its slot.
  __device__ void next_tile() {
    if (args.stages == 2) {
      wait_copies<0>();
    } else {
      wait_copies<1>();
    }
    __syncthreads();
    fill_next_slot();
  }
};

// Shared-memory addresses of the fragments of a tile that this lane gives to ldmatrix. Bit `chunk_bit` of the lane
// chooses between the two chunks of a 16-channel step, bit `row_bit` between rows 0 .. 7 and 8 .. 15.
template <int kHeadDim>
struct FragmentAddress {
  uint32_t row_offset, chunk_offset;

  __device__ FragmentAddress(int lane, int row_bit, int chunk_bit, int first_row = 0) {
    const int row = first_row + lane % 8 + (lane >> row_bit & 1) * 8;
    row_offset = row * Tile<kHeadDim>::kRowBytes;
    chunk_offset = ((lane >> chunk_bit & 1) ^ Tile<kHeadDim>::swizzle(row)) * 16;
  }
  // Of channels 16 step .. 16 step + 15 in row group `group` of 16.
  __device__ uint32_t operator()(uint32_t tile, int group, int step) const {
    return tile + row_offset + group * 16 * Tile<kHeadDim>::kRowBytes + (chunk_offset ^ step * 32);
  }
};

template <class T, int kHeadDim>
__device__ __forceinline__ void store_outputs(const AttentionArguments& args, const TilePlan& plan,
                                              const float (&outputs)[kHeadDim / 8][4], const RowState& state,
                                              int first_row, int lane) {
  const BlockSparseAttentionParams& p = args.params;
  const int num_rows = static_cast<int>(plan.is_context ? p.num_context : p.num_video);
  const int32_t* tokens = p.token_index + (plan.is_context ? 0 : p.num_context);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + lane / 4 + 8 * i;
    store_row<T, kHeadDim>(p, state, i, row < num_rows ? tokens[row] : -1, plan.batch, plan.head, lane,
                           [&](int n) { return make_float2(outputs[n][2 * i], outputs[n][2 * i + 1]); });
  }
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(kThreads, 2) attention_kernel(const __grid_constant__ AttentionArguments args) {
  using Shape = Tile<kHeadDim>;
  constexpr int kRowGroups = Shape::kRowGroups, kSteps = kHeadDim / 16;
  extern __shared__ __align__(1024) uint8_t dynamic_shared[];
  const uint32_t queries = shared_address(dynamic_shared);
  const uint32_t ring = queries + Shape::kQueryBytes;
  float* bias = reinterpret_cast<float*>(dynamic_shared + Shape::kQueryBytes + args.stages * Shape::kUnitBytes);
  TilePlan& plan = *reinterpret_cast<TilePlan*>(bias + 2 * kUnitKeys);
  uint32_t* kept = reinterpret_cast<uint32_t*>(&plan + 1);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  plan_tile(args, Shape::kTilesPerBlock, Shape::kQueryRows, plan, kept);
  const int num_units = plan.num_units(), biased_units = plan.biased_units();
  const float scale_log2 = args.params.softmax_scale * 1.4426950408889634f;

  CopyQueue<kHeadDim> copies{args, plan, kept, ring, bias, {}, 2 * num_units};
  copies.reader.prefetch(args, plan, 0);
  copies.copy_queries(queries);
  copies.fill_next_slot();
  if (args.stages == 3) copies.fill_next_slot();

  const FragmentAddress<kHeadDim> query_address(lane, 3, 4, warp * kRowGroups * 16);
  const FragmentAddress<kHeadDim> key_address(lane, 4, 3);
  const FragmentAddress<kHeadDim> value_address(lane, 3, 4);
  uint32_t kept_queries[Shape::kQueriesInRegisters ? kSteps : 1][kRowGroups][4];

  float outputs[kRowGroups][kHeadDim / 8][4] = {};
  RowState state[kRowGroups];
  int slot = 0;
  for (int unit = 0; unit < num_units; ++unit) {
    copies.next_tile();
    if constexpr (Shape::kQueriesInRegisters) {
      if (unit == 0) {
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
#pragma unroll
          for (int g = 0; g < kRowGroups; ++g) load_matrices(kept_queries[step][g], query_address(queries, g, step));
        }
      }
    }
    const uint32_t key_tile = ring + slot * Shape::kUnitBytes;
    float scores[kRowGroups][kScoreTiles][4] = {};
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
      for (int pair = 0; pair < kScoreTiles / 2; ++pair) {
        uint32_t k[4];
        load_matrices(k, key_address(key_tile, pair, step));
#pragma unroll
        for (int g = 0; g < kRowGroups; ++g) {
          multiply_add<T>(scores[g][2 * pair], q[g], k[0], k[1]);
          multiply_add<T>(scores[g][2 * pair + 1], q[g], k[2], k[3]);
        }
      }
    }

    uint32_t probabilities[kRowGroups][kScoreTiles / 2][4];
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
      if (unit < biased_units) add_bias(scores[g], bias + unit % 2 * kUnitKeys, lane);
      float rescale[2];
      update_softmax(scores[g], state[g], rescale, scale_log2);
      if (__any_sync(0xFFFFFFFFu, rescale[0] != 1.f || rescale[1] != 1.f)) {
#pragma unroll
        for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) outputs[g][n][e] *= rescale[e / 2];
        }
      }
      // The accumulators of two score tiles are the first operand of 16 keys.
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
        probabilities[g][n / 2][n % 2 * 2] = pack_pair<T>(scores[g][n][0], scores[g][n][1]);
        probabilities[g][n / 2][n % 2 * 2 + 1] = pack_pair<T>(scores[g][n][2], scores[g][n][3]);
      }
    }
    slot = slot + 1 == args.stages ? 0 : slot + 1;

    copies.next_tile();
    const uint32_t value_tile = ring + slot * Shape::kUnitBytes;
#pragma unroll
    for (int keys = 0; keys < kScoreTiles / 2; ++keys) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t v[4];
        load_matrices_transposed(v, value_address(value_tile, keys, step));
#pragma unroll
        for (int g = 0; g < kRowGroups; ++g) {
          multiply_add<T>(outputs[g][2 * step], probabilities[g][keys], v[0], v[1]);
          multiply_add<T>(outputs[g][2 * step + 1], probabilities[g][keys], v[2], v[3]);
        }
      }
    }
    slot = slot + 1 == args.stages ? 0 : slot + 1;
  }

#pragma unroll
  for (int g = 0; g < kRowGroups; ++g) {
    store_outputs<T, kHeadDim>(args, plan, outputs[g], state[g], plan.first_row + (warp * kRowGroups + g) * 16, lane);
  }
}

}  // namespace jenga::cuda::sm80
