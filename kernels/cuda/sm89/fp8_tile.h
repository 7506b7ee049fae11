// What a warp does with the scores of its 16 query rows where values are e4m3: weights in e4m3, products of both.
//
// Products of e4m3 may keep no more than 14 bits of a running sum and drop what is below, as Hopper's do: over
// thousands of keys small weights would vanish. So the sums of a unit start anew, eight channels at a time, and are
// added to fp32 registers, by the multiplication that rescales those anyway.
#pragma once

#include "kernels/cuda/common/float8_weights.h"
#include "kernels/cuda/sm80/int8_copies.h"
#include "kernels/cuda/sm80/warp_tile.h"
#include "kernels/cuda/sm89/fp8_shape.h"
#include "kernels/cuda/sm89/mma.h"

namespace jenga::cuda::sm89 {

using sm80::kUnitKeys;

// A block of values. Where there is no row memory has zeros.
__device__ __forceinline__ void copy_block(Fp8Shape, uint32_t target, const uint16_t* source) {
  using Values = Fp8Shape::Values;
  constexpr int kRowStep = sm80::kThreads / Values::kChunks;
  static_assert(kRowStep % 8 == 0, "the swizzle must repeat");
  target += Values::offset(threadIdx.x / Values::kChunks, threadIdx.x % Values::kChunks);
  source += threadIdx.x * kVectorElements;
#pragma unroll
  for (int i = 0; i < kFp8HeadDim / kRowStep; ++i)
    sm80::copy_async(target + i * kRowStep * Values::kRowBytes, source + i * sm80::kThreads * kVectorElements, true);
}

// The rest of an Int8Tile (sm80/int8_attention_kernel.h). T: of the output.
template <class T>
struct Fp8Rest : sm80::RowTile<T, Fp8Shape::Queries, uint32_t, kUnitKeys / 8> {
  using Base = sm80::RowTile<T, Fp8Shape::Queries, uint32_t, kUnitKeys / 8>;
  using Base::kRowGroups;
  using Base::outputs;
  using Base::scores;
  using Base::state;
  using Base::value_address;  // of the row that this lane gives to ldmatrix, in a block of values
  using Base::weights;        // as weigh_rows makes them
  WeightBase base[kRowGroups][2];
  float rescale[kRowGroups][2];  // of earlier outputs and sums

  // For what comes behind the last unit; nothing from before the first is kept in registers for it.
  __device__ static unsigned thread_at_end(unsigned) { return sm80::read_thread_index(); }

  // Bases stand for the largest scores, which state therefore begins without.
  __device__ explicit Fp8Rest(int lane) : Base(Fp8Shape::Values::offset(lane % 8, lane / 8)) {
#pragma unroll
    for (RowState& of : state) of.max[0] = of.max[1] = 0.f;
  }

  // As of a WarpTile, to weights.
  __device__ __forceinline__ void weigh_values(int g, const float (&found)[2], const float (&unit)[2], float zero,
                                               float scale_log2) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float offset = base[g][i].move(found[i] * scale_log2, &rescale[g][i]);
      pack_row(weights[g], scores[g], i, WeightCodes(unit[i] * scale_log2, offset, zero));
    }
  }

  // outputs = rescaled outputs + P V, state.sum likewise: the sums of the rounded weights, products with ones.
  __device__ __forceinline__ void accumulate(uint32_t values) {
    constexpr uint32_t kOnes = 0x38383838u;  // four times 1 in e4m3
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
      float of_unit[4] = {};
      multiply_add_fp8(of_unit, weights[g], kOnes, kOnes);
      multiply_add_fp8(of_unit, weights[g] + 4, kOnes, kOnes);
#pragma unroll
      for (int i = 0; i < 2; ++i) state[g].sum[i] = fmaf(state[g].sum[i], rescale[g][i], of_unit[2 * i]);
    }
#pragma unroll
    for (int eight = 0; eight < kFp8HeadDim / 8; ++eight) {
      uint32_t v[4];  // of channels 8 eight .. + 7: keys 0 .. 15, 16 .. 31, 32 .. 47, 48 .. 63
      sm80::load_matrices(v, values + value_address + eight * 8 * Fp8Shape::Values::kRowBytes);
#pragma unroll
      for (int g = 0; g < kRowGroups; ++g) {
        float of_unit[4] = {};
        multiply_add_fp8(of_unit, weights[g], v[0], v[1]);
        multiply_add_fp8(of_unit, weights[g] + 4, v[2], v[3]);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float& output = outputs[g][4 * eight + e];
          output = fmaf(output, rescale[g][e / 2], of_unit[e]);
        }
      }
    }
  }

  // Outputs in units of the values, the sums that the epilogue wants.
  __device__ __forceinline__ void finish(const BlockSparseAttentionParams& p, int64_t head, int lane) {
    const float* const scale = p.v_carved.scale + head * kFp8HeadDim;
    const float* const center = p.v_center + head * kFp8HeadDim;
    const float of_score = 1.f / (p.softmax_scale * kLog2E);  // scaled to whole ones
#pragma unroll
    for (int g = 0; g < kRowGroups; ++g) {
      const float sums[2] = {state[g].sum[0] * kShare, state[g].sum[1] * kShare};
      to_value_units(outputs[g], outputs[g], sums, scale, center, lane);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        state[g].sum[i] = sums[i] * 0.25f;  // every thread of the quad has it all
        state[g].max[i] = fmaf(base[g][i].base, of_score, state[g].max[i]);
      }
    }
  }
};

}  // namespace jenga::cuda::sm89
