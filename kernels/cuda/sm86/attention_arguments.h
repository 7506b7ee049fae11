// The attention kernels with the tiles of sm86/shape.h. They get what those of sm_80 get.
#pragma once

#include "kernels/cuda/sm80/attention_arguments.h"

namespace jenga::cuda {

JENGA_KERNEL_PAIR(sm86_attention_128, jenga_sm86_attention_128, sm80::AttentionArguments);
JENGA_KERNEL_PAIR(sm86_attention_192, jenga_sm86_attention_192, sm80::AttentionArguments);
JENGA_KERNEL_PAIR(sm86_attention_256, jenga_sm86_attention_256, sm80::AttentionArguments);

}  // namespace jenga::cuda
