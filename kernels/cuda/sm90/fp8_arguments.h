// The sm_90a attention kernels with int8 keys and e4m3 values, what they get by value, and the sizes that their launch
// needs. One head dim, 128: a row of codes is one panel of shared memory.
#pragma once

#include "kernels/cuda/sm90/attention_arguments.h"
#include "kernels/value_blocks.h"

namespace jenga::cuda {
namespace sm90 {

inline constexpr int kFp8HeadDim = static_cast<int>(kFloat8HeadDim);

// Of shared memory: Fp8Storage, and what its alignment may cost.
inline constexpr int64_t kFp8StorageBytes = 215040;
inline constexpr int64_t kFp8SharedBytes = kFp8StorageBytes + kPanelAlignment;

struct Fp8Arguments {
  TileWalk walk;
  CUtensorMap k_map, k_tail_map;  // [batch, head, row, channel], box of 64 rows x 128 codes
  CUtensorMap v_map, v_tail_map;  // [batch * head, block, channel, key], box of one block
  int32_t* next_ticket;           // work counter, zero at launch
  int32_t num_tickets;            // tiles of the whole launch
};

}  // namespace sm90

JENGA_KERNEL_PAIR(sm90_fp8_attention, jenga_sm90_fp8_attention_128, sm90::Fp8Arguments);

}  // namespace jenga::cuda
