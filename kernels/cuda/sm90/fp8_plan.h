// The planner warps of the kernels with int8 keys: as plan_tiles.h, with queries, rotated, as int8 codes and a scale a
// row (rule: kernels/params.h). Codes lie in a panel as the copy engine would write it.
#pragma once

#include "kernels/cuda/common/quantise.h"
#include "kernels/cuda/sm90/fp8_storage.h"
#include "kernels/cuda/sm90/plan_tiles.h"
#include "kernels/cuda/sm90/row_products.h"

namespace jenga::cuda::sm90 {

// A scale of 0 could not be divided by; a row as small has codes 0 all the same.
inline constexpr float kSmallestScale = 1e-20f;

// Every query row of the tile. q: of this batch row and head; center: of the head, as multiply_rows wants it.
template <class T>
__device__ __forceinline__ void quantise_queries(const TilePlan& plan, const T* q, int64_t token_stride,
                                                 const uint16_t* center, uint8_t* codes, QueryRows& rows, int thread) {
  constexpr int kStep = kRowLanes * kVectorElements;  // from one vector of a lane to the next
  static_assert(kRowVectors * kStep == kFp8HeadDim);
  const int lane = thread % kRowLanes;
  constexpr int kRows = kPlannerThreads / kRowLanes;  // of a pass
#pragma unroll 1
  for (int row = thread / kRowLanes; row < round_up(kTileRows, kRows); row += kRows) {
    const int64_t token = row < kTileRows ? plan.token[row] : -1;
    const T* const source = q + token * token_stride + lane * kVectorElements;
    uint4 vectors[kRowVectors];
#pragma unroll
    for (int i = 0; i < kRowVectors; ++i) {
      vectors[i] = make_uint4(0, 0, 0, 0);
      if (token >= 0) vectors[i] = __ldg(reinterpret_cast<const uint4*>(source + i * kStep));
    }
    const float product = multiply_rows<T>(vectors, center);
    float x[kRowVectors][kVectorElements];
    rotate_rows<T>(vectors, x);
    const float top = largest_of_lanes<kRowLanes>(largest_magnitude(x));
    // Approximate: a division proper is a call, which takes registers that are not there.
    const float scale = fmaxf(top * (1.f / kInt8Max), kSmallestScale), inverse = __fdividef(1.f, scale);
    if (row >= kTileRows) continue;
    uint8_t* const target = codes + row * kCodeRowBytes;
    const int place = (lane / 2 ^ row % 8) * 16 + lane % 2 * 8;
#pragma unroll
    for (int i = 0; i < kRowVectors; ++i)  // kStep bytes on, two pieces of 16
      *reinterpret_cast<uint2*>(target + (place ^ i * kStep)) = int8_codes_at_once(x[i], inverse);
    if (lane == 0) {
      rows.scale[row] = scale;
      rows.center_product[row] = product;
    }
  }
}

template <class T>
__device__ __forceinline__ void plan_fp8_tiles(const Fp8Arguments& args, Fp8Storage& shared, int thread) {
  const BlockSparseAttentionParams& p = args.walk.params;
  RingPosition<kPlanSlots> tile;
  for (;; tile.advance()) {
    if (!plan_next_tile(args, shared, tile, thread)) return;
    const TilePlan& plan = shared.plan[tile.slot];
    const int batch = plan.block.batch, head = plan.block.head;
    const T* q = static_cast<const T*>(p.q.data) + batch * p.q.strides.batch + head * p.q.strides.head;
    const int64_t of_head = (batch * p.heads + head) * kFp8HeadDim;
    QueryRows& rows = shared.rows[tile.slot];
    barrier_wait(&shared.q_empty[tile.slot], tile.empty_parity());
    for (int channel = thread; channel < kFp8HeadDim; channel += kPlannerThreads) {
      rows.value_scale[channel] = __ldg(p.v_carved.scale + of_head + channel);
      rows.value_center[channel] = __ldg(p.v_center + of_head + channel);
      const uint32_t parts = split<T>(__ldg(p.k_center + of_head + channel));
      shared.key_center[0][channel] = static_cast<uint16_t>(parts);
      shared.key_center[1][channel] = static_cast<uint16_t>(parts >> 16);
    }
    named_barrier_sync(kPlannerBarrier, kPlannerThreads);  // for the center
    quantise_queries(plan, q, p.q.strides.token, shared.key_center[0], shared.q[tile.slot], rows, thread);
    fence_async_proxy();  // the products read the codes
    barrier_arrive(&shared.q_full[tile.slot]);
  }
}

}  // namespace jenga::cuda::sm90
