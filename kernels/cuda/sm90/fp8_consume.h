// A consumer warpgroup of the kernels with int8 keys and e4m3 values: 64 query rows of every tile. A turn is PV[i] and,
// when it is done, QK[i + 1]; the two groups take turns, so that one's softmax runs under the other's products.
//
// Products of e4m3 keep 14 bits of a running sum and drop what is below: over thousands of keys small weights would
// vanish. So the sums of one unit start anew and are added to fp32 registers, by the multiplication that rescales those
// anyway.
#pragma once

#include "kernels/cuda/common/epilogue.h"
#include "kernels/cuda/common/float8_weights.h"
#include "kernels/cuda/common/softmax.h"
#include "kernels/cuda/sm90/fp8_storage.h"
#include "kernels/cuda/sm90/wgmma_8bit.h"

namespace jenga::cuda::sm90 {

inline constexpr int kOutputs = (kFp8HeadDim + 8) / 2;  // accumulators of a thread: channels, then the sums of weights

__device__ __forceinline__ void issue_int8_scores(int32_t (&sums)[64], const uint8_t* q, const uint8_t* k) {
  const uint64_t q_base = panel_descriptor(q, 0), k_base = panel_descriptor(k, 0);
  wgmma_int8_scores<true>(sums, q_base, k_base);
#pragma unroll
  for (int step = 1; step < kFp8HeadDim / 32; ++step)
    wgmma_int8_scores<false>(sums, q_base + descriptor_step(step * 32), k_base + descriptor_step(step * 32));
  wgmma_commit();
}

// weights: as weigh_rows and weigh_sums make them.
__device__ __forceinline__ void issue_fp8_outputs(float (&sums)[kOutputs], const uint32_t (&weights)[16],
                                                  const ValueBlock (&v)[2]) {
  const uint64_t first = value_descriptor(v[0].values), second = value_descriptor(v[1].values);
  wgmma_fp8_outputs<true>(sums, weights, first);
  wgmma_fp8_outputs<false>(sums, weights + 4, first + descriptor_step(32));
  wgmma_fp8_outputs<false>(sums, weights + 8, second);
  wgmma_fp8_outputs<false>(sums, weights + 12, second + descriptor_step(32));
  wgmma_commit();
}

// What a thread holds of its two rows (layout of values: softmax.h), and where its group stands in the ring.
struct Fp8Consumer {
  Fp8Storage& shared;
  const int group, lane;
  RingPosition<kUnitSlots> ring;
  int first_row;        // of this thread, in the tile
  int slot;             // of the tile's queries
  float scale_log2[2];  // of a score without its row's scale: softmax scale, that one, log2(e)
  WeightBase base[2];
  int32_t sums[64];
  float outputs[kOutputs];

  __device__ __forceinline__ void begin(float softmax_scale) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      scale_log2[i] = softmax_scale * kLog2E * shared.rows[slot].scale[first_row + 8 * i];
      base[i] = {};
    }
#pragma unroll
    for (float& value : outputs) value = 0.f;
  }

  // Sums of products of codes to scores with their keys' bias. A query row's own scale is left to the softmax.
  __device__ __forceinline__ void score_sums(float (&scores)[64], const UnitSlot& slot) const {
    const float inverse[2] = {1.f / scale_log2[0], 1.f / scale_log2[1]};
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const float2 bias = *reinterpret_cast<const float2*>(slot.bias + 8 * j + 2 * (lane % 4));
      const float scale = slot.k_scale[j / kScaleColumns];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float of_row = (e % 2 == 0 ? bias.x : bias.y) * inverse[e / 2];
        scores[4 * j + e] = fmaf(static_cast<float>(sums[4 * j + e]), scale, of_row);
      }
    }
  }

  // What has arrived of a unit to weights. whole: without a look at what it has missing.
  __device__ __forceinline__ void weigh(uint32_t (&weights)[16], float (&rescale)[2], const UnitSlot& slot,
                                        bool whole) {
    if (!whole && slot.kind == UnitKind::kBiased) {
      float scores[64];
      score_sums(scores, slot);
      return weigh_rows(weights, scores, base, rescale, scale_log2);
    }
    const float bias = whole ? 0.f : slot.shared_bias;
    weigh_sums(weights, sums, {slot.k_scale[0], slot.k_scale[1]}, bias, whole, {slot.missing, slot.present}, base,
               rescale, scale_log2, lane);
  }

  __device__ __forceinline__ const uint8_t* codes() const {
    return shared.q[slot] + kGroupRows * group * kCodeRowBytes;
  }
  __device__ __forceinline__ void wait_for_keys() { barrier_wait(&shared.k_full[ring.slot], ring.full_parity); }

  __device__ __forceinline__ void first_unit() {
    wait_for_keys();
    wgmma_fence();
    issue_int8_scores(sums, codes(), shared.unit[ring.slot].k);
  }

  // From the scores of a unit, which are on their way, to its outputs, and the scores of the next on theirs.
  template <bool kLast>
  __device__ __forceinline__ void attend_unit(bool whole) {
    const UnitSlot& slot = shared.unit[ring.slot];
    Barrier* const empty = &shared.unit_empty[ring.slot];
    // What the turn needs arrives long before: these waits pass under the products of scores.
    barrier_wait(&shared.v_full[ring.slot], ring.full_parity);
    ring.advance();
    if (!kLast) wait_for_keys();
    wgmma_wait<0>();
    pin_registers(sums);
    float rescale[2];
    uint32_t weights[16];
    weigh(weights, rescale, slot, whole);

    named_barrier_sync(kTurnBarrier + group, kConsumerThreads);
    float of_unit[kOutputs];
    wgmma_fence();
    issue_fp8_outputs(of_unit, weights, slot.v);
    wgmma_wait<0>();
    pin_registers(of_unit);
    if (!kLast) {
      wgmma_fence();
      issue_int8_scores(sums, codes(), shared.unit[ring.slot].k);
    }
    named_barrier_arrive(kTurnBarrier + (group ^ 1), kConsumerThreads);
    __syncwarp();  // scales and bias were read by ordinary loads
    if (lane == 0) barrier_arrive(empty);
#pragma unroll
    for (int n = 0; n < kOutputs; ++n) outputs[n] = fmaf(outputs[n], rescale[n / 2 % 2], of_unit[n]);
  }

  // Rows 0 and 1 of this thread: outputs in units of the values, the state that the epilogue wants.
  __device__ __forceinline__ void finish(float (&rows)[kFp8HeadDim / 2], RowState& state, float softmax_scale) const {
    const float of_score = 1.f / (softmax_scale * kLog2E);  // scaled to whole ones
    float sum[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum[i] = outputs[kFp8HeadDim / 2 + 2 * i] * kShare;
      state.sum[i] = sum[i] * 0.25f;  // every thread of the quad has it all
      state.max[i] = fmaf(base[i].base, of_score, shared.rows[slot].center_product[first_row + 8 * i]);
    }
    to_value_units(rows, outputs, sum, shared.rows[slot].value_scale, shared.rows[slot].value_center, lane);
  }
};

template <class T>
__device__ __forceinline__ void consume_fp8(const Fp8Arguments& args, Fp8Storage& shared, int group, int thread) {
  const BlockSparseAttentionParams& p = args.walk.params;
  const int lane = thread % 32, first_row = kGroupRows * group + 16 * (thread / 32) + lane / 4;
  Fp8Consumer consumer{shared, group, lane, {}, first_row};
  RingPosition<kPlanSlots> tile;
  if (group == 1) named_barrier_arrive(kTurnBarrier, kConsumerThreads);  // group 0 goes first
  for (;; tile.advance()) {
    barrier_wait(&shared.plan_full[tile.slot], tile.full_parity);
    const TilePlan& plan = shared.plan[tile.slot];
    if (plan.block.batch < 0) return;
    const int num_units = warp_uniform(plan.units.all()), biased_units = warp_uniform(plan.units.biased());
    barrier_wait(&shared.q_full[tile.slot], tile.full_parity);
    consumer.slot = tile.slot;
    consumer.begin(p.softmax_scale);
    if (num_units > 0) {
      consumer.first_unit();
      for (int unit = 0; unit + 1 < num_units; ++unit) consumer.attend_unit<false>(unit >= biased_units);
      consumer.attend_unit<true>(num_units > biased_units);
    }
    const int batch = plan.block.batch, head = plan.block.head;
    const int32_t tokens[2] = {plan.token[first_row], plan.token[first_row + 8]};
    float rows[kFp8HeadDim / 2];
    RowState state;
    consumer.finish(rows, state, p.softmax_scale);
    barrier_arrive(&shared.plan_empty[tile.slot]);
    __syncwarp();
    if (lane == 0) barrier_arrive(&shared.q_empty[tile.slot]);
#pragma unroll
    for (int i = 0; i < 2; ++i) store_row<T, kFp8HeadDim>(p, rows, state, i, tokens[i], batch, head, lane);
  }
}

}  // namespace jenga::cuda::sm90
