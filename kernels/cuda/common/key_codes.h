// Keys to int8 codes about the center, rotated, kKeyScaleRows carved rows with one scale (rule: kernels/params.h).
#pragma once

#include "kernels/cuda/common/hadamard.h"
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
  __shared__ float tops[kPrepareThreads / 32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, channel = lane % kLanes * kVectorElements;
  const uint32_t is_token = __ballot_sync(0xFFFFFFFFu, my_token >= 0) >> lane / kLanes;
  const int size = static_cast<int>(rotation_size(head_dim));
  float center[kVectorElements] = {}, rest[kPasses][kVectorElements];
  if (channel < head_dim) load_row(rule.center + channel, center);
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    unpack_vector<T>(vectors[pass], rest[pass]);
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i)
      rest[pass][i] = is_token >> pass * kRowsPerPass & 1u ? rest[pass][i] - center[i] : 0.f;
  }
  hadamard<kLanes>(rest, size);
  float top = largest_of_lanes<32>(largest_magnitude(rest));
  if (lane == 0) tops[warp] = top;
  __syncthreads();
  const int first_warp = warp / kWarpsPerScale * kWarpsPerScale;
#pragma unroll
  for (int i = 0; i < kWarpsPerScale; ++i) top = fmaxf(top, tops[first_warp + i]);
  const auto [scale, inverse] = RotatedScale(top, size);
  const int first = warp * kRowsPerWarp + lane / kLanes;
  const int rows = static_cast<int>(end - first_row < kPrepareRows ? end - first_row : kPrepareRows);
  int8_t* const target = rule.codes + first_row * head_dim;
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    const int row = first + pass * kRowsPerPass;
    const uint2 codes = int8_codes(rest[pass], inverse);
    if (row < rows && channel < head_dim) *reinterpret_cast<uint2*>(target + row * head_dim + channel) = codes;
  }
  if (warp == first_warp && lane == 0 && first < rows)
    rule.scale[first_row / kKeyScaleRows + warp / kWarpsPerScale] = scale;
}

}  // namespace jenga::cuda
