// The kernels with int8 keys and e4m3 values out of mma.sync. They get what those of sm_80 get.
#pragma once

#include "kernels/cuda/sm80/attention_arguments.h"

namespace jenga::cuda {

JENGA_KERNEL_PAIR(sm89_fp8_attention, jenga_sm89_fp8_attention_128, sm80::AttentionArguments);

}  // namespace jenga::cuda
