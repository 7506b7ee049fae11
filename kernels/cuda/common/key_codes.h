// Keys to int8 codes about the center, kKeyScaleRows carved rows with one scale (rule: kernels/params.h).
#pragma once

#include "kernels/cuda/common/prepare_blocks.h"
#include "kernels/cuda/common/quantise.h"

namespace jenga::cuda {

// What the keys of one head are written with.
struct KeyRule {
  const float* center;  // [D]
  float* scale;
  int8_t* codes;
};

// The rows of a tile of kPrepareRows from first_row of the head on, loaded as prepare_blocks loads them: a warp has 16,
// vectors[pass] is row pass * (32 / kLanes) + lane / kLanes of them, channels from lane % kLanes * 8 on. my_token: of
// row lane % 16 of the warp, -1 where there is none, which gives codes 0. Nothing is written from end on, the rows of
// the head. All threads of the block.
template <class T, int kLanes, int kPasses>
__device__ __forceinline__ void write_key_codes(const KeyRule& rule, const uint4 (&vectors)[kPasses], int my_token,
                                                int64_t first_row, int64_t end, int head_dim) {
  constexpr int kRowsPerPass = 32 / kLanes, kRowsPerWarp = kPasses * kRowsPerPass;
  constexpr int kWarpsPerScale = static_cast<int>(kKeyScaleRows) / kRowsPerWarp;
  static_assert(kKeyScaleRows % kRowsPerWarp == 0 && kPrepareRows % kKeyScaleRows == 0);
  __shared__ float largest[kPrepareThreads / 32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, channel = lane % kLanes * kVectorElements;
  float center[kVectorElements] = {};
#pragma unroll
  for (int i = 0; i < kVectorElements && channel < head_dim; ++i) center[i] = rule.center[channel + i];
  // About the center; zeros where there is no token.
  const auto read = [&](float(&values)[kVectorElements], int pass) {
    const bool is_token = __shfl_sync(0xFFFFFFFFu, my_token, pass * kRowsPerPass + lane / kLanes) >= 0;
    unpack_vector<T>(vectors[pass], values);
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i) values[i] = is_token ? values[i] - center[i] : 0.f;
  };
  float top = 0.f, values[kVectorElements];
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    read(values, pass);
#pragma unroll
    for (float value : values) top = fmaxf(top, fabsf(value));
  }
  top = largest_of_lanes<32>(top);
  if (lane == 0) largest[warp] = top;
  __syncthreads();
  const int first_warp = warp / kWarpsPerScale * kWarpsPerScale;
#pragma unroll
  for (int i = 0; i < kWarpsPerScale; ++i) top = fmaxf(top, largest[first_warp + i]);
  const float scale = top / kInt8Max, inverse = scale > 0.f ? 1.f / scale : 0.f;
  const int64_t first_of_warp = first_row + warp * kRowsPerWarp;
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    const int64_t row = first_of_warp + pass * kRowsPerPass + lane / kLanes;
    read(values, pass);
    if (row < end && channel < head_dim)
      *reinterpret_cast<uint2*>(rule.codes + row * head_dim + channel) = int8_codes(values, inverse);
  }
  if (warp == first_warp && lane == 0 && first_of_warp < end) rule.scale[first_of_warp / kKeyScaleRows] = scale;
}

}  // namespace jenga::cuda
