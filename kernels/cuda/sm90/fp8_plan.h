// The planner warps of the kernels with int8 keys: as plan_tiles.h, with queries as int8 codes and a scale a row (rule:
// kernels/params.h). Codes lie in a panel as the copy engine would write it.
#pragma once

#include "kernels/cuda/common/quantise.h"
#include "kernels/cuda/sm90/fp8_storage.h"
#include "kernels/cuda/sm90/plan_tiles.h"

namespace jenga::cuda::sm90 {

// A scale of 0 could not be divided by; a row as small has codes 0 all the same.
inline constexpr float kSmallestScale = 1e-20f;

// Every query row of the tile, 16 lanes a row. q: of this batch row and head; center: of the head.
template <class T>
__device__ __forceinline__ void quantise_queries(const TilePlan& plan, const T* q, int64_t token_stride,
                                                 const float* center, uint8_t* codes, QueryRows& rows, int thread) {
  constexpr int kLanes = kFp8HeadDim / kVectorElements, kRowsPerPass = kPlannerThreads / kLanes;
  constexpr int kPasses = 4;  // in flight together
  const int lane = thread % kLanes, channel = lane * kVectorElements;
  float of_center[kVectorElements];
#pragma unroll
  for (int i = 0; i < kVectorElements; ++i) of_center[i] = __ldg(center + channel + i);
  for (int start = 0; start < kTileRows; start += kPasses * kRowsPerPass) {
    const int first = start + thread / kLanes;
    uint4 vectors[kPasses];
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = first + pass * kRowsPerPass;
      const int64_t token = row < kTileRows ? plan.token[row] : -1;
      vectors[pass] = make_uint4(0, 0, 0, 0);
      if (token >= 0) vectors[pass] = __ldg(reinterpret_cast<const uint4*>(q + token * token_stride + channel));
    }
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = first + pass * kRowsPerPass;
      float values[kVectorElements], product = 0.f;
      unpack_vector<T>(vectors[pass], values);
#pragma unroll
      for (int i = 0; i < kVectorElements; ++i) product = fmaf(values[i], of_center[i], product);
#pragma unroll
      for (int step = kLanes / 2; step > 0; step /= 2) product += __shfl_xor_sync(0xFFFFFFFFu, product, step);
      const float scale = fmaxf(largest_of_row<kLanes>(values) / kInt8Max, kSmallestScale);
      if (row >= kTileRows) continue;
      uint8_t* const target = codes + row * kCodeRowBytes + ((lane / 2) ^ (row % 8)) * 16 + lane % 2 * 8;
      *reinterpret_cast<uint2*>(target) = int8_codes(values, 1.f / scale);
      if (lane == 0) {
        rows.scale[row] = scale;
        rows.center_product[row] = product;
      }
    }
  }
}

template <class T>
__device__ __forceinline__ void plan_fp8_tiles(const Fp8Arguments& args, Fp8Storage& shared, int thread) {
  const BlockSparseAttentionParams& p = args.walk.params;
  RingPosition<kPlanSlots> tile;
  RingPosition<1> wanted;
  for (;; tile.advance(), wanted.advance()) {
    if (!plan_next_tile(args, shared, tile, wanted, thread)) return;
    const TilePlan& plan = shared.plan[tile.slot];
    const int batch = plan.block.batch, head = plan.block.head;
    const T* q = static_cast<const T*>(p.q.data) + batch * p.q.strides.batch + head * p.q.strides.head;
    const int64_t of_head = (batch * p.heads + head) * kFp8HeadDim;
    QueryRows& rows = shared.rows[tile.slot];
    barrier_wait(&shared.q_empty[tile.slot], tile.empty_parity());
    quantise_queries(plan, q, p.q.strides.token, p.k_center + of_head, shared.q[tile.slot], rows, thread);
    for (int channel = thread; channel < kFp8HeadDim; channel += kPlannerThreads) {
      rows.value_scale[channel] = __ldg(p.v_carved.scale + of_head + channel);
      rows.value_center[channel] = __ldg(p.v_center + of_head + channel);
    }
    fence_async_proxy();  // the products read the codes
    barrier_arrive(&shared.q_full[tile.slot]);
  }
}

}  // namespace jenga::cuda::sm90
