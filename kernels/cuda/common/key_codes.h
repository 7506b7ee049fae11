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

// The largest distance from the center over the passes that have a token: bits of is_token, kRowsPerPass apart. A
// difference from the center never falls where the element rises, rounded or not. So the largest distance of a channel
// is that of its largest or of its smallest element, and those are found in 16 bits, two channels at a time.
template <class T, int kRowsPerPass, int kPasses>
__device__ __forceinline__ float largest_distance(const uint4 (&vectors)[kPasses], uint32_t is_token,
                                                  const float (&center)[kVectorElements]) {
  const uint32_t lowest = pack_pair<T>(-INFINITY, -INFINITY), highest = pack_pair<T>(INFINITY, INFINITY);
  uint32_t largest[4] = {lowest, lowest, lowest, lowest}, smallest[4] = {highest, highest, highest, highest};
  constexpr uint32_t kEveryPass = 0xFFFFu / ((1u << kRowsPerPass) - 1);
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    if ((is_token >> pass * kRowsPerPass & 1u) == 0) continue;
    const uint32_t words[4] = {vectors[pass].x, vectors[pass].y, vectors[pass].z, vectors[pass].w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      largest[i] = larger_pair<T>(largest[i], words[i]);
      smallest[i] = smaller_pair<T>(smallest[i], words[i]);
    }
  }
  float top = 0.f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 a = unpack_pair<T>(largest[i]), b = unpack_pair<T>(smallest[i]);
    top = fmaxf(top, fmaxf(fabsf(a.x - center[2 * i]), fabsf(b.x - center[2 * i])));
    top = fmaxf(top, fmaxf(fabsf(a.y - center[2 * i + 1]), fabsf(b.y - center[2 * i + 1])));
  }
  return (is_token & kEveryPass) != 0 ? top : 0.f;
}

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
  float center[kVectorElements] = {};
  if (channel < head_dim) load_row(rule.center + channel, center);
  float top = largest_of_lanes<32>(largest_distance<T, kRowsPerPass>(vectors, is_token, center));
  if (lane == 0) tops[warp] = top;
  __syncthreads();
  const int first_warp = warp / kWarpsPerScale * kWarpsPerScale;
#pragma unroll
  for (int i = 0; i < kWarpsPerScale; ++i) top = fmaxf(top, tops[first_warp + i]);
  const float scale = top / kInt8Max, inverse = inverse_of(scale);
  const int64_t first_of_warp = first_row + warp * kRowsPerWarp;
  const int rows_left = static_cast<int>(end - first_of_warp < kRowsPerWarp ? end - first_of_warp : kRowsPerWarp);
  int8_t* target = rule.codes + (first_of_warp + lane / kLanes) * head_dim + channel;
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    float values[kVectorElements];
    unpack_vector<T>(vectors[pass], values);
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i) values[i] -= center[i];
    const uint2 codes = int8_codes(values, is_token >> pass * kRowsPerPass & 1u ? inverse : 0.f);
    if (pass * kRowsPerPass + lane / kLanes < rows_left && channel < head_dim)
      *reinterpret_cast<uint2*>(target) = codes;
    target += kRowsPerPass * head_dim;
  }
  if (warp == first_warp && lane == 0 && rows_left > 0) rule.scale[first_of_warp / kKeyScaleRows] = scale;
}

}  // namespace jenga::cuda
