#include "kernels/cuda/sm80/attention_kernel.h"

JENGA_DEFINE_MMA_ATTENTION(jenga_sm80_attention_32, sm80::TileShape<32>)
