#include "kernels/cuda/sm80/attention_kernel.h"
#include "kernels/cuda/sm86/attention_arguments.h"
#include "kernels/cuda/sm86/shape.h"

JENGA_DEFINE_MMA_ATTENTION(jenga_sm86_attention_192, sm86::TileShape<192>)
