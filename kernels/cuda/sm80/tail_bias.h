// The kernel of tail_bias: what it gets by value, and the sizes that its launch needs.
#pragma once

#include <cstdint>

#include "kernels/cuda/driver/kernel.h"
#include "kernels/params.h"

namespace jenga::cuda {
namespace sm80 {

inline constexpr int kTailBiasThreads = 128;
inline constexpr int kOctets = 32;         // of key cells, eight each, that a thread block takes
inline constexpr int kQueryPadding = 32;   // channels behind a row in shared memory: rows lie in different banks
inline constexpr int kChunkChannels = 32;  // that a thread's quad loads at a time

// Bytes of shared memory: the sampled query cells of one head, whole chunks of channels.
inline int64_t tail_bias_shared_bytes(int64_t head_dim) {
  return kSampledCells * (round_up(head_dim, kChunkChannels) + kQueryPadding) * 2;
}

}  // namespace sm80

struct TailBiasArguments {
  TailBiasParams params;
  int32_t head_dim, num_q_cells, num_k_cells, num_tail_cells, num_sampled;
  int32_t parts;            // key cells of a tail cell: 2, 4 or 8
  int32_t blocks_per_head;  // thread blocks
  float scale_log2;         // softmax_scale * log2(e)
};
JENGA_KERNEL_PAIR(sm80_tail_bias, jenga_tail_bias, TailBiasArguments);

TailBiasArguments tail_bias_arguments(const TailBiasParams& params);

}  // namespace jenga::cuda
