// A consumer warpgroup of the kernels with int8 keys and e4m3 values: 64 query rows of every tile. The two groups work
// side by side, so that one's softmax runs under the other's products.
//
// Products of e4m3 keep 14 bits of a running sum and drop what is below: over thousands of keys small weights would
// vanish. So the sums of one unit start anew and are added to fp32 registers, by the multiplication that rescales those
// anyway.
#pragma once

#include "kernels/cuda/common/epilogue.h"
#include "kernels/cuda/common/softmax.h"
#include "kernels/cuda/sm90/fp8_storage.h"
#include "kernels/cuda/sm90/wgmma_8bit.h"

namespace jenga::cuda::sm90 {

inline constexpr int kOutputs = (kFp8HeadDim + 8) / 2;  // accumulators of a thread: channels, then the sums of weights
inline constexpr float kShare = 1.f / kFloat8Max;       // weights are shares of 448
inline constexpr float kLog2Float8Max = 8.807354922057604f;  // log2(448)
static_assert(kFloat8Max == 448.f);

__device__ __forceinline__ void issue_int8_scores(int32_t (&sums)[64], const uint8_t* q, const uint8_t* k) {
  const uint64_t q_base = panel_descriptor(q, 0), k_base = panel_descriptor(k, 0);
  wgmma_int8_scores<true>(sums, q_base, k_base);
#pragma unroll
  for (int step = 1; step < kFp8HeadDim / 32; ++step)
    wgmma_int8_scores<false>(sums, q_base + descriptor_step(step * 32), k_base + descriptor_step(step * 32));
  wgmma_commit();
}

// Over the 64 keys of one block. weights: eight words, keys 4 t + b of every sixteen as value_blocks.h has them.
template <bool kFirst>
__device__ __forceinline__ void issue_fp8_outputs(float (&sums)[kOutputs], const uint32_t* weights,
                                                  const ValueBlock& block) {
  const uint64_t base = value_descriptor(block.values);
  wgmma_fp8_outputs<kFirst>(sums, weights, base);
  wgmma_fp8_outputs<false>(sums, weights + 4, base + descriptor_step(32));
  wgmma_commit();
}

// Products of codes to scores: key_scales of the unit's keys. A query row's own scale is left to the softmax.
__device__ __forceinline__ void scale_scores(float (&scores)[64], const int32_t (&sums)[64], const float* key_scales,
                                             int lane) {
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    const float2 scale = *reinterpret_cast<const float2*>(key_scales + 8 * j + 2 * (lane % 4));
    scores[4 * j] = static_cast<float>(sums[4 * j]) * scale.x;
    scores[4 * j + 1] = static_cast<float>(sums[4 * j + 1]) * scale.y;
    scores[4 * j + 2] = static_cast<float>(sums[4 * j + 2]) * scale.x;
    scores[4 * j + 3] = static_cast<float>(sums[4 * j + 3]) * scale.y;
  }
}

// Scores of the 64 keys of a block to e4m3 weights. Word 4 s + 2 h + i: row i, of keys 32 s + 16 h + (0 .. 15) the four
// that this thread holds.
__device__ __forceinline__ void weigh_block(uint32_t (&weights)[8], const float* scores, const float (&scale_log2)[2],
                                            const float (&offset)[2]) {
#pragma unroll
  for (int sixteen = 0; sixteen < 4; ++sixteen) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const auto weight = [&](int j, int e) {
        return fast_exp2(fmaf(scores[4 * (2 * sixteen + j) + 2 * i + e], scale_log2[i], -offset[i]));
      };
      weights[2 * sixteen + i] = pack_weights(weight(0, 0), weight(0, 1), weight(1, 0), weight(1, 1));
    }
  }
}

// What a thread holds of its two rows (layout of values: softmax.h), and where its group stands in the ring.
struct Fp8Consumer {
  Fp8Storage& shared;
  const int group, lane;
  RingPosition<kUnitSlots> ring;
  const uint8_t* q;
  float row_scale[2];   // of the query rows
  float scale_log2[2];  // of a score without that: softmax scale, scale of the row, log2(e)
  float max[2];
  float outputs[kOutputs];

  __device__ __forceinline__ void begin(const QueryRows& rows, const uint8_t* codes, int row, float softmax_scale) {
    q = codes;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      row_scale[i] = rows.scale[row + 8 * i];
      scale_log2[i] = softmax_scale * kLog2E * row_scale[i];
      max[i] = -INFINITY;
    }
#pragma unroll
    for (float& value : outputs) value = 0.f;
  }

  // bias: in units of whole scores.
  __device__ __forceinline__ void add_row_bias(float (&scores)[64], const float* bias) const {
    const float inverse[2] = {1.f / row_scale[0], 1.f / row_scale[1]};
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const float2 pair = *reinterpret_cast<const float2*>(bias + 8 * j + 2 * (lane % 4));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scores[4 * j + 2 * i] = fmaf(pair.x, inverse[i], scores[4 * j + 2 * i]);
        scores[4 * j + 2 * i + 1] = fmaf(pair.y, inverse[i], scores[4 * j + 2 * i + 1]);
      }
    }
  }

  // Takes the unit's largest score in. rescale: of earlier sums; offset: what to subtract from scaled scores, so that
  // the largest weight is 448.
  __device__ __forceinline__ void update_max(const float (&scores)[64], float (&rescale)[2], float (&offset)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float top = max[i];
#pragma unroll
      for (int j = 0; j < 16; ++j) top = fmaxf(top, fmaxf(scores[4 * j + 2 * i], scores[4 * j + 2 * i + 1]));
      top = quad_max(top);
      // A row that has met only -inf so far keeps max = -inf; 0 in its place gives weights 0 instead of NaN.
      const float base = top == -INFINITY ? 0.f : top * scale_log2[i];
      rescale[i] = fast_exp2(fmaf(max[i], scale_log2[i], -base));
      offset[i] = base - kLog2Float8Max;
      max[i] = top;
    }
  }

  __device__ __forceinline__ void attend_unit(bool biased) {
    UnitSlot& slot = shared.unit[ring.slot];
    int32_t sums[64];
    barrier_wait(&shared.k_full[ring.slot], ring.full_parity);
    wgmma_fence();
    issue_int8_scores(sums, q, slot.k);
    wgmma_wait<0>();
    pin_registers(sums);
    float scores[64], rescale[2], offset[2];
    scale_scores(scores, sums, slot.k_scale, lane);
    if (biased) add_row_bias(scores, slot.bias);
    update_max(scores, rescale, offset);

    // The second half is weighed under the products of the first.
    float of_unit[kOutputs];
    uint32_t first[8], second[8];
    weigh_block(first, scores, scale_log2, offset);
    barrier_wait(&shared.v_full[ring.slot], ring.full_parity);
    wgmma_fence();
    issue_fp8_outputs<true>(of_unit, first, slot.v[0]);
    weigh_block(second, scores + 32, scale_log2, offset);
    wgmma_fence();
    issue_fp8_outputs<false>(of_unit, second, slot.v[1]);
    wgmma_wait<0>();
    pin_registers(of_unit);
    __syncwarp();  // scales and bias were read by ordinary loads
    if (lane == 0) barrier_arrive(&shared.unit_empty[ring.slot]);
    ring.advance();
#pragma unroll
    for (int n = 0; n < kOutputs; ++n) outputs[n] = fmaf(outputs[n], rescale[n / 2 % 2], of_unit[n]);
  }

  // Rows 0 and 1 of this thread: outputs in units of the values, the state that the epilogue wants.
  // scale, center: of the values of this head; center_product: of the query rows.
  __device__ __forceinline__ void finish(float (&rows)[kFp8HeadDim / 2], RowState& state, const float* scale,
                                         const float* center, const float (&center_product)[2]) const {
    float sum[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum[i] = outputs[kFp8HeadDim / 2 + 2 * i] * kShare;
      state.sum[i] = sum[i] * 0.25f;  // every thread of the quad has it all
      state.max[i] = max[i] * row_scale[i] + center_product[i];
    }
#pragma unroll
    for (int j = 0; j < kFp8HeadDim / 8; ++j) {
      const int channel = 8 * j + 2 * (lane % 4);
      const float2 of_value = __ldg(reinterpret_cast<const float2*>(scale + channel));
      const float2 of_center = __ldg(reinterpret_cast<const float2*>(center + channel));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        rows[4 * j + 2 * i] = fmaf(outputs[4 * j + 2 * i], of_value.x * kShare, of_center.x * sum[i]);
        rows[4 * j + 2 * i + 1] = fmaf(outputs[4 * j + 2 * i + 1], of_value.y * kShare, of_center.y * sum[i]);
      }
    }
  }
};

template <class T>
__device__ __forceinline__ void consume_fp8(const Fp8Arguments& args, Fp8Storage& shared, int group, int thread) {
  const BlockSparseAttentionParams& p = args.walk.params;
  const int lane = thread % 32;
  const int first_row = kGroupRows * group + 16 * (thread / 32) + lane / 4;
  Fp8Consumer consumer{shared, group, lane};
  RingPosition<kPlanSlots> tile;
  for (;; tile.advance()) {
    barrier_wait(&shared.plan_full[tile.slot], tile.full_parity);
    const TilePlan& plan = shared.plan[tile.slot];
    const int batch = plan.block.batch, head = plan.block.head;
    if (batch < 0) return;
    const int num_units = warp_uniform(plan.units.all()), biased_units = warp_uniform(plan.units.biased());
    const int32_t tokens[2] = {plan.token[first_row], plan.token[first_row + 8]};
    barrier_arrive(&shared.plan_empty[tile.slot]);

    barrier_wait(&shared.q_full[tile.slot], tile.full_parity);
    const QueryRows& of_tile = shared.rows[tile.slot];
    const float center_product[2] = {of_tile.center_product[first_row], of_tile.center_product[first_row + 8]};
    consumer.begin(of_tile, shared.q[tile.slot] + kGroupRows * group * kCodeRowBytes, first_row, p.softmax_scale);
    for (int unit = 0; unit < num_units; ++unit) consumer.attend_unit(unit < biased_units);
    __syncwarp();
    if (lane == 0) barrier_arrive(&shared.q_empty[tile.slot]);

    float rows[kFp8HeadDim / 2];
    RowState state;
    const int64_t of_head = (batch * p.heads + head) * kFp8HeadDim;
    consumer.finish(rows, state, p.v_carved.scale + of_head, p.v_center + of_head, center_product);
#pragma unroll
    for (int i = 0; i < 2; ++i) store_row<T, kFp8HeadDim>(p, rows, state, i, tokens[i], batch, head, lane);
  }
}

}  // namespace jenga::cuda::sm90
