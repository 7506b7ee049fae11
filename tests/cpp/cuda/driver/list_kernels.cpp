// Prints every kernel that the host's code can name: code, name, bytes and alignment of its argument
// (check_kernels.py).
#include <cstdio>

#include "kernels/cuda/driver/kernel.h"

// From here on a declaration prints itself.
#undef JENGA_KERNEL
#undef JENGA_KERNEL_PAIR
#define JENGA_KERNEL(code, name, Arguments) \
  static const int printed_##name = std::printf("%s %s %zu %zu\n", #code, #name, sizeof(Arguments), alignof(Arguments))
#define JENGA_KERNEL_PAIR(code, name, Arguments) \
  JENGA_KERNEL(code, name##_bf16, Arguments);    \
  JENGA_KERNEL(code, name##_fp16, Arguments)

#include "kernels/cuda/common/average_cells.h"
#include "kernels/cuda/common/kept_share.h"
#include "kernels/cuda/common/pack_residual.h"
#include "kernels/cuda/common/prepare_blocks.h"
#include "kernels/cuda/common/select_blocks.h"
#include "kernels/cuda/common/tile_order.h"
#include "kernels/cuda/sm80/attention_arguments.h"
#include "kernels/cuda/sm80/score_kernels.h"
#include "kernels/cuda/sm80/tail_bias.h"
#include "kernels/cuda/sm86/attention_arguments.h"
#include "kernels/cuda/sm89/attention_arguments.h"
#include "kernels/cuda/sm90/attention_arguments.h"
#include "kernels/cuda/sm90/fp8_arguments.h"
#include "kernels/cuda/sm90/score_kernels.h"

int main() { return 0; }
