#include "kernels/cuda/sm80/int8_attention_kernel.h"

JENGA_DEFINE_SM80_INT8_ATTENTION(128)
