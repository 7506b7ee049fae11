// Where e4m3 values lie in memory for CUDA kernels: [B, H, blocks, D, 64], a channel's values of 64 carved rows (or
// tail cells) side by side, zeros where there is no row.
//
// 8-bit products of Hopper take the keys of a row four at a time per thread, but a thread gets its scores in pairs: of
// every 16 keys thread t of a quad holds 2 t, 2 t + 1, 8 + 2 t, 8 + 2 t + 1. Sums do not mind the order of keys, so
// values lie in the order in which weights are at hand, and no weight ever moves to another thread.
#pragma once

#include <cstdint>

namespace jenga {

inline constexpr int kValueBlockKeys = 64;

// The key of 0 .. 15 at position 4 t + b of its sixteen.
constexpr int key_at_position(int position) {
  const int thread = position / 4, byte = position % 4;
  return byte < 2 ? 2 * thread + byte : 8 + 2 * thread + byte - 2;
}

// The position of a key of 0 .. 15 among its sixteen.
constexpr int position_of_key(int key) {
  const int thread = key % 8 / 2;
  return 4 * thread + key % 2 + (key < 8 ? 0 : 2);
}

// Bytes from the start of a head's blocks to the code of a row and channel.
constexpr int64_t value_offset(int64_t row, int64_t channel, int64_t head_dim) {
  const int64_t block = row / kValueBlockKeys, key = row % kValueBlockKeys;
  return (block * head_dim + channel) * kValueBlockKeys + key / 16 * 16 + position_of_key(static_cast<int>(key % 16));
}

}  // namespace jenga
