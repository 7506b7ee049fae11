// What the scoring kernels of all architectures share: the two passes over a thread's part of a tile of logits.
//
// The first pass finds each query cell's log-sum-exp over the coarse cells, the second sums exp(logit - it) over
// the cells of a block; no matrix of cells is kept. Cells stand in the instruction's rows and columns so that a thread
// holds consecutive ones: kSlots query cells times kKeys key cells, four neighbouring
// threads the same query cells. A block of up to 8 key cells is then summed without an exchange, one of 8 query cells
// with one or two.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/score_arguments.h"
#include "kernels/cuda/common/softmax.h"

namespace jenga::cuda {

constexpr float kNoMaximum = -1e30f;  // finite, so that a difference of two is 0
constexpr uint32_t kFullMask = 0xFFFFFFFFu;

// A thread's accumulators, in the order of the matrix instructions: two query cells side by side, two key cells in a
// row.
template <int kSlots, int kKeys>
struct Logits {
  float sums[kSlots * kKeys];
  // Query slot u, key slot s.
  __device__ __forceinline__ float& at(int u, int s) { return sums[u / 2 * 2 * kKeys + s / 2 * 4 + u % 2 * 2 + s % 2]; }
};

// The key cell of a tile that belongs into column `column` of the product, so that the thread that has this column has
// its neighbours too.
template <int kKeys>
__device__ __forceinline__ int key_of_column(int column) {
  return column % 8 / 2 * kKeys + column / 8 * 2 + column % 2;
}

// What the last tile needs: the ragged cell weighs what it has, columns past it nothing.
template <int kSlots, int kKeys>
__device__ __forceinline__ void mask_last_keys(const ScoreArguments& args, Logits<kSlots, kKeys>& logits, int first) {
#pragma unroll
  for (int s = 0; s < kKeys; ++s) {
    const int cell = first + s;
    const float bias = cell < args.num_k_cells - 1 ? 0.f : cell < args.num_k_cells ? args.last_k_logit : -INFINITY;
#pragma unroll
    for (int u = 0; u < kSlots; ++u) logits.at(u, s) += bias;
  }
}

// Running maximum and sum of exp2(scale * logit - maximum) of a thread's query cells.
template <int kSlots>
struct Normaliser {
  float maximum[kSlots], sum[kSlots];

  template <int kKeys>
  __device__ __forceinline__ void add(Logits<kSlots, kKeys>& logits, float scale) {
#pragma unroll
    for (int u = 0; u < kSlots; ++u) {
      float top = logits.at(u, 0);
#pragma unroll
      for (int s = 1; s < kKeys; ++s) top = fmaxf(top, logits.at(u, s));
      top = fmaxf(maximum[u], top * scale);
      float added = 0.f;
#pragma unroll
      for (int s = 0; s < kKeys; ++s) added += fast_exp2(fmaf(logits.at(u, s), scale, -top));
      sum[u] = fmaf(sum[u], fast_exp2(maximum[u] - top), added);
      maximum[u] = top;
    }
  }

  // log2 of the sum over the four threads that share a query cell.
  __device__ __forceinline__ float total(int u) {
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
      const float other = __shfl_xor_sync(kFullMask, maximum[u], step);
      const float other_sum = __shfl_xor_sync(kFullMask, sum[u], step);
      const float top = fmaxf(maximum[u], other);
      sum[u] = sum[u] * fast_exp2(maximum[u] - top) + other_sum * fast_exp2(other - top);
      maximum[u] = top;
    }
    return maximum[u] + log2f(sum[u]);
  }
};

// The mass of kRun key slots of query slot u from slot s on.
template <int kRun, int kSlots, int kKeys>
__device__ __forceinline__ float sum_keys(Logits<kSlots, kKeys>& masses, int u, int s) {
  if constexpr (kRun == 1) {
    return masses.at(u, s);
  } else {
    return sum_keys<kRun / 2>(masses, u, s) + sum_keys<kRun / 2>(masses, u, s + kRun / 2);
  }
}

// Writes query slot u's masses of key blocks of kRun cells, up to four neighbours at a time. out: the row of its query
// block; writes: whether this thread does.
template <int kRun, int kSlots, int kKeys>
__device__ __forceinline__ void store_row(const ScoreArguments& args, Logits<kSlots, kKeys>& masses, int u, float* out,
                                          bool writes, int first_k) {
  constexpr int kBlocks = kKeys / kRun, kTogether = kBlocks < 4 ? kBlocks : 4;
  float mass[kBlocks];
#pragma unroll
  for (int i = 0; i < kBlocks; ++i) mass[i] = sum_keys<kRun>(masses, u, i * kRun);
#pragma unroll
  for (int step = kSlots; step < 8; step *= 2) {  // query cells of one block in neighbouring threads
    if (args.q_cells <= step) break;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) mass[i] += __shfl_xor_sync(kFullMask, mass[i], step / kSlots * 4);
  }
#pragma unroll
  for (int i = 0; i < kBlocks; i += kTogether) {
    const int kv_block = first_k / kRun + i;
    if (!writes || kv_block >= args.mass_stride) continue;
    if constexpr (kTogether == 4) {
      *reinterpret_cast<float4*>(out + kv_block) = make_float4(mass[i], mass[i + 1], mass[i + 2], mass[i + 3]);
    } else {
      static_assert(kTogether == 2);
      *reinterpret_cast<float2*>(out + kv_block) = make_float2(mass[i], mass[i + 1]);
    }
  }
}

// One tile's logits to masses, summed over the cells of each pair of blocks and written.
// first_q: the thread's first query cell in its head; first_k: its first key cell.
template <int kSlots, int kKeys>
__device__ __forceinline__ void write_masses(const ScoreArguments& args, Logits<kSlots, kKeys>& logits,
                                             const float (&shift)[kSlots], int64_t head, int first_q, int first_k) {
  const int q_cells = args.q_cells;
#pragma unroll
  for (int u = 0; u < kSlots; ++u) {
#pragma unroll
    for (int s = 0; s < kKeys; ++s) {
      logits.at(u, s) = fast_exp2(fmaf(logits.at(u, s), args.scale, -shift[u]));
    }
  }
#pragma unroll
  for (int step = 1; step < kSlots; step *= 2) {
    if (q_cells <= step) break;
#pragma unroll
    for (int u = 0; u < kSlots; u += 2 * step) {
#pragma unroll
      for (int s = 0; s < kKeys; ++s) logits.at(u, s) += logits.at(u + step, s);
    }
  }
#pragma unroll
  for (int u = 0; u < kSlots; ++u) {
    if ((u & (q_cells - 1)) != 0) continue;
    const int q_block = (first_q + u) >> args.q_cell_bits;
    const bool writes = ((first_q + u) & (q_cells - 1)) == 0 && q_block < args.num_q_blocks;
    float* out = args.masses + (head * args.num_q_blocks + q_block) * args.mass_stride;
    if (args.k_cells == 8) {
      store_row<8>(args, logits, u, out, writes, first_k);
    } else if (args.k_cells == 4) {
      store_row<4>(args, logits, u, out, writes, first_k);
    } else if (args.k_cells == 2) {
      store_row<2>(args, logits, u, out, writes, first_k);
    } else {
      store_row<1>(args, logits, u, out, writes, first_k);
    }
  }
}

// The first pass ends: what the second subtracts, log2 of a query cell's sum over the weight of its tokens.
template <int kSlots>
__device__ __forceinline__ void write_shifts(const ScoreArguments& args, Normaliser<kSlots>& rows, int64_t head,
                                             int first_q, int lane) {
#pragma unroll
  for (int u = 0; u < kSlots; ++u) {
    const float total = rows.total(u);
    const int cell = first_q + u;
    if (lane % 4 == 0 && cell < args.num_q_cells) {
      const float weight = cell == args.num_q_cells - 1 ? args.last_q_weight : 0.f;
      args.shifts[head * args.num_q_cells + cell] = total - weight;
    }
  }
}

// State of both passes, of which a kernel has one.
template <int kSlots, bool kMasses>
struct Rows {
  Normaliser<kSlots> normaliser;
  float shift[kSlots];

  __device__ __forceinline__ void begin(const ScoreArguments& args, int64_t head, int first_q) {
#pragma unroll
    for (int u = 0; u < kSlots; ++u) {
      normaliser.maximum[u] = kNoMaximum;
      normaliser.sum[u] = 0.f;
      shift[u] = -kNoMaximum;  // rows that do not exist have no mass
      if (kMasses && first_q + u < args.num_q_cells) shift[u] = args.shifts[head * args.num_q_cells + first_q + u];
    }
  }

  template <int kKeys>
  __device__ __forceinline__ void add(const ScoreArguments& args, Logits<kSlots, kKeys>& logits, int64_t head,
                                      int first_q, int first_k, bool last_tile) {
    if (last_tile) mask_last_keys(args, logits, first_k);
    if constexpr (kMasses) {
      write_masses(args, logits, shift, head, first_q, first_k);
    } else {
      normaliser.add(logits, args.scale);
    }
  }

  __device__ __forceinline__ void end(const ScoreArguments& args, int64_t head, int first_q, int lane) {
    if constexpr (!kMasses) write_shifts(args, normaliser, head, first_q, lane);
  }
};

}  // namespace jenga::cuda
