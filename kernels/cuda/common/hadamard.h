// Rows times H, the rotation of queries and keys that become int8 codes (kernels/params.h). In fp32; sums of channels 1
// apart come first, then of those 2, 4, ... apart, as in the reference.
#pragma once

namespace jenga::cuda {

__device__ __forceinline__ void add_and_subtract(float& one, float& other) {
  const float sum = one + other;
  other = one - other;
  one = sum;
}

// Sums and differences of channels kApart apart, of kChannels neighbouring ones.
template <int kApart, int kChannels>
__device__ __forceinline__ void add_apart(float (&values)[kChannels]) {
#pragma unroll
  for (int i = 0; i < kChannels; ++i) {
    if (i / kApart % 2 == 0) add_and_subtract(values[i], values[i + kApart]);
  }
}

// Of channels that lanes `step` apart have.
template <int kChannels>
__device__ __forceinline__ void add_lanes_apart(float (&values)[kChannels], int step) {
  const float sign = threadIdx.x & step ? -1.f : 1.f;
#pragma unroll
  for (int i = 0; i < kChannels; ++i) values[i] = fmaf(values[i], sign, __shfl_xor_sync(0xFFFFFFFFu, values[i], step));
}

// Rows of which every lane has kChannels neighbouring channels and the next lane the next ones, on at most kLanes
// lanes. size: rotation_size of a row's channels. All lanes of the warp.
template <int kLanes, int kRows, int kChannels>
__device__ __forceinline__ void hadamard(float (&rows)[kRows][kChannels], int size) {
  static_assert(kChannels == 4 || kChannels == 8);
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    add_apart<1>(rows[row]);
    add_apart<2>(rows[row]);
    if constexpr (kChannels == 8) add_apart<4>(rows[row]);
  }
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) {
    if (step * kChannels >= size) return;
#pragma unroll
    for (int row = 0; row < kRows; ++row) add_lanes_apart(rows[row], step);
  }
}

// Of channels that parts `apart` from each other have.
template <int kParts, int kChannels>
__device__ __forceinline__ void add_parts(float (&parts)[kParts][kChannels], int apart) {
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    if (part / apart % 2 != 0) continue;
#pragma unroll
    for (int i = 0; i < kChannels; ++i) add_and_subtract(parts[part][i], parts[part + apart][i]);
  }
}

// A row whose runs of kChannels channels kLanes neighbouring lanes have in turn: lane i has run kLanes * p + i as
// parts[p].
template <int kLanes, int kParts, int kChannels>
__device__ __forceinline__ void hadamard_in_turn(float (&parts)[kParts][kChannels], int size) {
  hadamard<kLanes>(parts, size);
#pragma unroll
  for (int apart = 1; apart < kParts; apart *= 2) {
    if (apart * kLanes * kChannels < size) add_parts(parts, apart);
  }
}

}  // namespace jenga::cuda
