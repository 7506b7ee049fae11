// Rows in 16 bits times H (kernels/params.h), and times a vector, by mma.sync: planners have few registers, and in sums
// of their own would spend more instructions on a row than on everything else.
#pragma once

#include "kernels/cuda/common/element.h"
#include "kernels/cuda/common/hadamard.h"
#include "kernels/cuda/sm80/mma.h"

namespace jenga::cuda::sm90 {

// Eight rows of a warp: lane 4 r + t has of row r channels 32 i + 8 t .. + 7 as vectors[i].
inline constexpr int kRowLanes = 4, kRowVectors = 4;

// The rows times H: x[i] has channels as vectors[i].
//
// Sums over two channels of a word, two words and four lanes (bits 0, 2, 3 and 4 of a channel's number) are products
// with ones and minus ones. Words 1 and 3 of a vector (bit 1) are the rows of a product that eight rows leave free;
// these and vectors (bits 5 and 6) are added behind it.
template <class T>
__device__ __forceinline__ void rotate_rows(const uint4 (&vectors)[kRowVectors],
                                            float (&x)[kRowVectors][kVectorElements]) {
  const uint32_t lane = threadIdx.x % 32, column = lane / 4;
  const bool is_odd = __popc(lane % 4 & column / 2) % 2 != 0, is_odd_column = column % 2 != 0;
  const uint32_t ones = pack_pair<T>(is_odd ? -1.f : 1.f, is_odd != is_odd_column ? -1.f : 1.f);
#pragma unroll
  for (int i = 0; i < kRowVectors; ++i) {
    const uint32_t a[4] = {vectors[i].x, vectors[i].y, vectors[i].z, vectors[i].w};
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // of the words
      float* const sums = x[i] + 4 * half;
      sums[0] = sums[1] = sums[2] = sums[3] = 0.f;
      sm80::multiply_add<T>(sums, a, ones, half == 0 ? ones : ones ^ 0x80008000u);
    }
    add_apart<2>(x[i]);
  }
  add_parts(x, 1);
  add_parts(x, 2);
}

// An fp32 number as two of 16 bits, the nearest in the lower half of a word and what it leaves in the upper.
template <class T>
__device__ __forceinline__ uint32_t split(float value) {
  return pack_pair<T>(value, value - unpack_pair<T>(pack_pair<T>(value, 0.f)).x);
}

// The rows times a vector of the same channels, parts [2][D]: the halves of split(). Of a product even columns take the
// first ones and odd columns the others; words 0 and 2 of a vector are its first rows, words 1 and 3 its last ones.
template <class T>
__device__ __forceinline__ float multiply_rows(const uint4 (&vectors)[kRowVectors], const uint16_t* parts) {
  constexpr int kChannels = kRowLanes * kRowVectors * kVectorElements;
  const int lane = threadIdx.x % 32;
  const uint16_t* const mine = parts + lane / kRowLanes % 2 * kChannels + lane % kRowLanes * kVectorElements;
  float first[4] = {}, last[4] = {};
#pragma unroll
  for (int i = 0; i < kRowVectors; ++i) {
    const uint4 b = *reinterpret_cast<const uint4*>(mine + i * kRowLanes * kVectorElements);
    const uint32_t a[4] = {vectors[i].x, vectors[i].y, vectors[i].z, vectors[i].w};
    sm80::multiply_add<T>(first, a, b.x, b.z);
    sm80::multiply_add<T>(last, a, b.y, b.w);
  }
  return first[0] + first[1] + (last[2] + last[3]);
}

}  // namespace jenga::cuda::sm90
