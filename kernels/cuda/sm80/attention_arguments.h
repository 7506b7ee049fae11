// The sm_80 attention kernels, and what they get by value.
#pragma once

#include "kernels/cuda/common/walk_arguments.h"
#include "kernels/cuda/driver/kernel.h"

namespace jenga::cuda {
namespace sm80 {

struct AttentionArguments {
  TileWalk walk;
  int32_t slots;  // of the ring in shared memory: 2 or 3; with int8 keys 2 or 4
};

inline constexpr int64_t kPlanBytes = 56;  // of a TilePlan, in shared memory behind the ring and the biases

}  // namespace sm80

JENGA_KERNEL_PAIR(sm80_attention_32, jenga_sm80_attention_32, sm80::AttentionArguments);
JENGA_KERNEL_PAIR(sm80_attention_64, jenga_sm80_attention_64, sm80::AttentionArguments);
JENGA_KERNEL_PAIR(sm80_attention_96, jenga_sm80_attention_96, sm80::AttentionArguments);
JENGA_KERNEL_PAIR(sm80_attention_128, jenga_sm80_attention_128, sm80::AttentionArguments);
JENGA_KERNEL_PAIR(sm80_attention_192, jenga_sm80_attention_192, sm80::AttentionArguments);
JENGA_KERNEL_PAIR(sm80_attention_256, jenga_sm80_attention_256, sm80::AttentionArguments);
JENGA_KERNEL_PAIR(sm80_int8_attention_64, jenga_sm80_int8_attention_64, sm80::AttentionArguments);
JENGA_KERNEL_PAIR(sm80_int8_attention_128, jenga_sm80_int8_attention_128, sm80::AttentionArguments);

}  // namespace jenga::cuda
