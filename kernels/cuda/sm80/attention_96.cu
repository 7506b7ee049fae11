#include "kernels/cuda/sm80/attention_kernel.h"

JENGA_DEFINE_SM80_ATTENTION(96)
