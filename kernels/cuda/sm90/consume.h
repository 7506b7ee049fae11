// A consumer warpgroup: 64 query rows of every tile. QK[i + 1] is issued before PV[i], and the two groups take turns,
// so that one's softmax runs under the other's products.
#pragma once

#include "kernels/cuda/common/epilogue.h"
#include "kernels/cuda/common/softmax.h"
#include "kernels/cuda/sm90/shared_storage.h"

namespace jenga::cuda::sm90 {

template <class T, int kHeadDim>
__device__ __forceinline__ void issue_scores(float (&scores)[64], const uint8_t* q, const uint8_t* k) {
  const uint64_t q_base = panel_descriptor(q, 0), k_base = panel_descriptor(k, 0);
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
    const uint64_t offset = descriptor_step(step / 4 * kPanelBytes + step % 4 * 32);  // 16 channels are 32 bytes
    wgmma_scores<T>(scores, q_base + offset, k_base + offset, step);
  }
  wgmma_commit();
}

template <class T, int kHeadDim>
__device__ __forceinline__ void issue_outputs(float (&outputs)[kHeadDim / 2], const uint32_t (&probabilities)[32],
                                              const uint8_t* v) {
  const uint64_t v_base = panel_descriptor(v, kPanelBytes);
#pragma unroll
  for (int step = 0; step < kUnitKeys / 16; ++step)
    wgmma_outputs<T>(outputs, probabilities + 4 * step, v_base + descriptor_step(step * 16 * kPanelRowBytes));
  wgmma_commit();
}

// For slots that only products read: a warp's wait for its quarter of a product holds for all its threads.
__device__ __forceinline__ void release(Barrier* empty, int lane) {
  if (lane == 0) barrier_arrive(empty);
}

// What a thread holds of its two rows (layout of values: softmax.h), and where its group stands in the rings.
template <class T, int kHeadDim>
struct Consumer {
  using Shared = SharedStorage<kHeadDim>;
  Shared& shared;
  const uint8_t* q;
  const int group, lane;
  const float scale_log2;
  RingPosition<Shared::kKeySlots> k_ring;
  RingPosition<Shared::kValueSlots> v_ring;
  RingPosition<kBiasSlots> bias_ring;
  float scores[64];
  float outputs[kHeadDim / 2];
  uint32_t probabilities[32];
  RowState state;

  __device__ __forceinline__ void apply_bias() {
    barrier_wait(&shared.bias_full[bias_ring.slot], bias_ring.full_parity);
    add_bias(scores, shared.bias[bias_ring.slot], lane);
    barrier_arrive(&shared.bias_empty[bias_ring.slot]);
    bias_ring.advance();
  }

  __device__ __forceinline__ void wait_for_keys() { barrier_wait(&shared.k_full[k_ring.slot], k_ring.full_parity); }
  __device__ __forceinline__ void release_keys() {
    release(&shared.k_empty[k_ring.slot], lane);
    k_ring.advance();
  }
  __device__ __forceinline__ void release_values() {
    release(&shared.v_empty[v_ring.slot], lane);
    v_ring.advance();
  }
  __device__ __forceinline__ void add_values() {
    barrier_wait(&shared.v_full[v_ring.slot], v_ring.full_parity);
    wgmma_fence();
    issue_outputs<T, kHeadDim>(outputs, probabilities, shared.v[v_ring.slot]);
  }

  __device__ __forceinline__ void first_unit(int num_units, bool biased) {
    float rescale[2];
    wait_for_keys();
    wgmma_fence();
    issue_scores<T, kHeadDim>(scores, q, shared.k[k_ring.slot]);
    wgmma_wait<0>();
    pin_registers(scores);
    release_keys();
    if (biased) apply_bias();
    update_softmax(scores, state, rescale, scale_log2);
    pack_probabilities<T>(probabilities, scores);
    if (num_units > 1) wait_for_keys();
  }

  // The scores of this unit under the outputs of the one before. Its keys have arrived.
  __device__ __forceinline__ void next_unit(bool biased, bool is_last) {
    float rescale[2];
    named_barrier_sync(kTurnBarrier + group, kConsumerThreads);
    wgmma_fence();
    issue_scores<T, kHeadDim>(scores, q, shared.k[k_ring.slot]);
    add_values();
    named_barrier_arrive(kTurnBarrier + (group ^ 1), kConsumerThreads);
    wgmma_wait<1>();
    pin_registers(scores);
    release_keys();
    if (biased) apply_bias();
    update_softmax(scores, state, rescale, scale_log2);
    // Exponentials and sums belong under PV[i - 1], but left to itself the assembler sinks them below the wait for it.
    // What stops it is a vote on the sums, which are never negative, between them and the wait's branches.
    const bool never = __any_sync(0xFFFFFFFFu, state.sum[0] < 0.f || state.sum[1] < 0.f);
    if (!is_last || never) wait_for_keys();
    wgmma_wait<0>();
    pin_registers(outputs);
    release_values();
    pack_probabilities<T>(probabilities, scores);
    rescale_rows(outputs, rescale);
  }

  __device__ __forceinline__ void last_outputs() {
    add_values();
    wgmma_wait<0>();
    pin_registers(outputs);
    release_values();
  }
};

template <class T, int kHeadDim>
__device__ __forceinline__ void consume(const AttentionArguments& args, SharedStorage<kHeadDim>& shared, int group,
                                        int thread) {
  const int lane = thread % 32;
  const int first_row = kGroupRows * group + 16 * (thread / 32);
  Consumer<T, kHeadDim> consumer{shared, shared.q + kGroupRows * group * kPanelRowBytes, group, lane,
                                 args.walk.params.softmax_scale * kLog2E};
  RingPosition<kPlanSlots> tile;
  RingPosition<1> queries;
  if (group == 1) named_barrier_arrive(kTurnBarrier, kConsumerThreads);  // group 0 goes first
  for (;; tile.advance(), queries.advance()) {
    barrier_wait(&shared.plan_full[tile.slot], tile.full_parity);
    const TilePlan& plan = shared.plan[tile.slot];
    const int batch = plan.block.batch, head = plan.block.head;
    if (batch < 0) return;
    const int num_units = warp_uniform(plan.units.all()), biased_units = warp_uniform(plan.units.biased());
    const int32_t tokens[2] = {plan.token[first_row + lane / 4], plan.token[first_row + lane / 4 + 8]};
    barrier_arrive(&shared.plan_empty[tile.slot]);

    consumer.state = {};
#pragma unroll
    for (float& value : consumer.outputs) value = 0.f;
    barrier_wait(&shared.q_full[group], queries.full_parity);
    if (num_units > 0) consumer.first_unit(num_units, biased_units > 0);
    for (int unit = 1; unit < num_units; ++unit) consumer.next_unit(unit < biased_units, unit + 1 == num_units);
    release(&shared.q_empty[group], lane);
    if (num_units > 0) consumer.last_outputs();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      store_row<T, kHeadDim>(args.walk.params, consumer.outputs, consumer.state, i, tokens[i], batch, head, lane);
    }
  }
}

}  // namespace jenga::cuda::sm90
