#include "kernels/cuda/sm89/attention_arguments.h"
#include "kernels/cuda/sm89/fp8_attention_kernel.h"

namespace jenga::cuda {

JENGA_DEFINE_KERNEL_PAIR(jenga_sm89_fp8_attention_128, sm80::AttentionArguments, (sm80::kThreads, 2), sm89::attend_fp8)

}  // namespace jenga::cuda
