// The attention epilogue: out = outputs / sum (+ residual), scattered to raster rows by 16-byte stores, and
// lse = max * softmax_scale + log(sum).
//
// A quad of threads holds 8 channels of a row in four pairs; transposing four such groups among the quad leaves every
// thread with one group: 16 bytes of output.
#pragma once

#include "kernels/cuda/common/element.h"
#include "kernels/cuda/common/softmax.h"
#include "kernels/params.h"

namespace jenga::cuda {

// values[c] of quad lane l becomes values[l] of quad lane c.
__device__ __forceinline__ void transpose_quad(float2 (&values)[4], int lane) {
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const bool upper = (lane & step) != 0;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const int low = step == 1 ? 2 * pair : pair;
      const int high = low + step;
      const float2 sent = upper ? values[low] : values[high];
      float2 received;
      received.x = __shfl_xor_sync(0xFFFFFFFFu, sent.x, step);
      received.y = __shfl_xor_sync(0xFFFFFFFFu, sent.y, step);
      values[low] = upper ? received : values[low];
      values[high] = upper ? values[high] : received;
    }
  }
}

// Adds residual channels first .. first + 7 of one row; row counts [B, S, H].
__device__ __forceinline__ void add_residual(float2 (&values)[4], const BlockSparseAttentionParams& params, int64_t row,
                                             int channel) {
  const int64_t element = row * params.head_dim + channel;
  switch (params.residual_type) {
    case ResidualType::kNone:
      return;
    case ResidualType::kFloat32: {
      const float2* source = reinterpret_cast<const float2*>(static_cast<const float*>(params.residual) + element);
#pragma unroll
      for (int c = 0; c < 4; ++c) values[c] = make_float2(values[c].x + source[c].x, values[c].y + source[c].y);
      return;
    }
    case ResidualType::kBFloat16:
    case ResidualType::kFloat16: {
      const uint4 packed = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(params.residual) + element);
      const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
      const bool is_bfloat16 = params.residual_type == ResidualType::kBFloat16;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const float2 pair = is_bfloat16 ? unpack_pair<__nv_bfloat16>(words[c]) : unpack_pair<__half>(words[c]);
        values[c] = make_float2(values[c].x + pair.x, values[c].y + pair.y);
      }
      return;
    }
    case ResidualType::kInt8: {
      const float scale = params.residual_scale[row];
      const uint2 packed = *reinterpret_cast<const uint2*>(static_cast<const int8_t*>(params.residual) + element);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const uint32_t word = (c < 2 ? packed.x : packed.y) >> (c % 2 * 16);
        values[c].x = fmaf(static_cast<float>(static_cast<int8_t>(word)), scale, values[c].x);
        values[c].y = fmaf(static_cast<float>(static_cast<int8_t>(word >> 8)), scale, values[c].y);
      }
      return;
    }
    case ResidualType::kInt4: {
      const float scale = params.residual_scale[row];
      const uint32_t packed =
          *reinterpret_cast<const uint32_t*>(static_cast<const uint8_t*>(params.residual) + element / 2);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        // The arithmetic shift down from the top nibble extends the sign.
        const int32_t low = static_cast<int32_t>(packed << (28 - 8 * c)) >> 28;
        const int32_t high = static_cast<int32_t>(packed << (24 - 8 * c)) >> 28;
        values[c].x = fmaf(static_cast<float>(low), scale, values[c].x);
        values[c].y = fmaf(static_cast<float>(high), scale, values[c].y);
      }
      return;
    }
  }
}

// Row i (0 or 1) of this thread. token: raster row; -1 for none, whose quad takes part in the exchange all the same.
template <class T, int kHeadDim>
__device__ __forceinline__ void store_row(const BlockSparseAttentionParams& params,
                                          const float (&outputs)[kHeadDim / 2], const RowState& state, int i,
                                          int64_t token, int batch, int head, int lane) {
  const int64_t num_tokens = params.num_context + params.num_video;
  const float sum = quad_sum(state.sum[i]);
  const float inverse = sum > 0.f ? 1.f / sum : 0.f;
  if (token >= 0 && lane % 4 == 0) {
    params.lse[(batch * params.heads + head) * num_tokens + token] =
        sum > 0.f ? fmaf(state.max[i], params.softmax_scale, logf(sum)) : -INFINITY;
  }
  const Strides& strides = params.out.strides;
  T* out = static_cast<T*>(params.out.data) + batch * strides.batch + head * strides.head + token * strides.token;
  const int64_t residual_row = (batch * num_tokens + token) * params.heads + head;
#pragma unroll
  for (int group = 0; group < kHeadDim / 32; ++group) {
    float2 values[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int n = 4 * (4 * group + c) + 2 * i;
      values[c] = make_float2(outputs[n] * inverse, outputs[n + 1] * inverse);
    }
    transpose_quad(values, lane);
    const int channel = 32 * group + 8 * (lane % 4);
    if (token < 0 || channel >= params.head_dim) continue;
    add_residual(values, params, residual_row, channel);
    *reinterpret_cast<uint4*>(out + channel) =
        make_uint4(pack_pair<T>(values[0].x, values[0].y), pack_pair<T>(values[1].x, values[1].y),
                   pack_pair<T>(values[2].x, values[2].y), pack_pair<T>(values[3].x, values[3].y));
  }
}

}  // namespace jenga::cuda
