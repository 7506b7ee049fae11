#include "kernels/cuda/sm89/attention_arguments.h"
#include "kernels/cuda/sm89/fp8_attention_kernel.h"

namespace jenga::cuda {

JENGA_DEFINE_KERNEL(jenga_sm89_fp8_attention_128_bf16, sm80::AttentionArguments, (sm80::kThreads, 2),
                    sm89::attend_fp8<__nv_bfloat16>)
JENGA_DEFINE_KERNEL(jenga_sm89_fp8_attention_128_fp16, sm80::AttentionArguments, (sm80::kThreads, 2),
                    sm89::attend_fp8<__half>)

}  // namespace jenga::cuda
