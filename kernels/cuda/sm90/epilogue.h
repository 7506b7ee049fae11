// out = outputs / sum (+ residual), scattered to raster rows by 16-byte stores; lse = max * softmax_scale + log(sum).
#pragma once

#include <cstdint>

#include "kernels/cuda/common/epilogue.h"
#include "kernels/cuda/sm90/softmax.h"
#include "kernels/params.h"

namespace jenga::cuda::sm90 {

// tokens: raster rows of this thread's two rows, -1 for none.
template <class T, int kHeadDim>
__device__ __forceinline__ void store_outputs(const BlockSparseAttentionParams& params,
                                              const float (&outputs)[kHeadDim / 2], const RowState& state,
                                              const int32_t (&tokens)[2], int batch, int head, int lane) {
  const int64_t num_tokens = params.num_context + params.num_video;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float sum = quad_sum(state.sum[i]);
    const float inverse = sum > 0.f ? 1.f / sum : 0.f;
    const int64_t token = tokens[i];
    if (token >= 0 && lane % 4 == 0) {
      params.lse[(batch * params.heads + head) * num_tokens + token] =
          sum > 0.f ? fmaf(state.max[i], params.softmax_scale, logf(sum)) : -INFINITY;
    }
    T* out = static_cast<T*>(params.out) + batch * params.out_strides.batch + head * params.out_strides.head +
             token * params.out_strides.token;
    const int64_t residual_row = (batch * num_tokens + token) * params.heads + head;
#pragma unroll
    for (int group = 0; group < kHeadDim / 32; ++group) {
      float2 values[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int first = 16 * group + 4 * c + 2 * i;
        values[c] = make_float2(outputs[first] * inverse, outputs[first + 1] * inverse);
      }
      transpose_quad(values, lane);
      if (token < 0) continue;
      const int channel = 32 * group + 8 * (lane % 4);
      add_residual(values, params, residual_row, channel);
      uint4 packed;
      packed.x = pack_pair<T>(values[0].x, values[0].y);
      packed.y = pack_pair<T>(values[1].x, values[1].y);
      packed.z = pack_pair<T>(values[2].x, values[2].y);
      packed.w = pack_pair<T>(values[3].x, values[3].y);
      *reinterpret_cast<uint4*>(out + channel) = packed;
    }
  }
}

}  // namespace jenga::cuda::sm90
