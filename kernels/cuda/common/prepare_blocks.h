// Kernels of prepare_blocks, by the lanes that share a row; with int8 keys there are at most 16, with e4m3 values too
// just 16.
#pragma once

#include "kernels/cuda/driver/kernel.h"
#include "kernels/params.h"

namespace jenga::cuda {

inline constexpr int kPrepareRows = 128;  // of a tile, which a thread block takes
inline constexpr int kPrepareThreads = 256;
inline constexpr int kPieceRows = 8;  // the smallest cell
inline constexpr int kOperands = 3;   // q, k, v

struct PrepareArguments {
  PrepareBlocksParams params;
  int32_t context_tiles, tiles;
  int32_t operands;    // the last ones: q is not read where its means are not wanted
  float* tail_means;   // [B, H, nc, D] of int8 keys, about their center: not codes yet
  int32_t* is_beyond;  // [B, H] of e4m3 values: whether a code is far above what sampled rows have
};

JENGA_KERNEL_PAIR(common_prepare_blocks, jenga_prepare_blocks_2, PrepareArguments);
JENGA_KERNEL_PAIR(common_prepare_blocks, jenga_prepare_blocks_4, PrepareArguments);
JENGA_KERNEL_PAIR(common_prepare_blocks, jenga_prepare_blocks_8, PrepareArguments);
JENGA_KERNEL_PAIR(common_prepare_blocks, jenga_prepare_blocks_16, PrepareArguments);
JENGA_KERNEL_PAIR(common_prepare_blocks, jenga_prepare_blocks_32, PrepareArguments);
JENGA_KERNEL_PAIR(common_prepare_blocks, jenga_prepare_int8_blocks_2, PrepareArguments);
JENGA_KERNEL_PAIR(common_prepare_blocks, jenga_prepare_int8_blocks_4, PrepareArguments);
JENGA_KERNEL_PAIR(common_prepare_blocks, jenga_prepare_int8_blocks_8, PrepareArguments);
JENGA_KERNEL_PAIR(common_prepare_blocks, jenga_prepare_int8_blocks_16, PrepareArguments);
JENGA_KERNEL_PAIR(common_prepare_blocks, jenga_prepare_fp8_blocks_16, PrepareArguments);

inline constexpr int kAgainBlocks = 32;  // thread blocks of a head
JENGA_KERNEL_PAIR(common_prepare_blocks, jenga_prepare_values_again, PrepareArguments);

inline constexpr int kSampleThreads = 512;
inline constexpr int kSampleChannels = 16;  // of one head, which a thread block sums
JENGA_KERNEL_PAIR(common_sample_centers, jenga_sample_centers, PrepareArguments);

inline constexpr int kQuantiseThreads = 256;
struct QuantiseTailArguments {
  const float* means;  // as tail_means
  int8_t* codes;       // [B, H, nc, D]
  float* scales;       // [B, H, scales_of_keys(nc)]
  int64_t cells, head_dim;
};
JENGA_KERNEL(common_quantise_tail, jenga_quantise_tail, QuantiseTailArguments);

inline constexpr int kScaleThreads = 256;
inline constexpr int kScaleRows = 512;  // of one head, which a thread block looks at
JENGA_KERNEL_PAIR(common_scale_values, jenga_scale_values, PrepareArguments);

}  // namespace jenga::cuda
