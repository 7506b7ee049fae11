// The avx512 tier: fp32 arithmetic for every dtype.
#include "kernels/cpu/avx512/simd.h"
// simd.h comes first: the headers below are written in its terms.
#include "kernels/cpu/vector_math.h"
//
#include "kernels/cpu/attention.h"
#include "kernels/cpu/pack_residual.h"
#include "kernels/cpu/prepare_blocks.h"
#include "kernels/cpu/select_blocks.h"
#include "kernels/cpu/tail_bias.h"
#include "kernels/cpu/tiers.h"

namespace jenga::cpu {

const KernelTable avx512_table = {"avx512",  avx512_supported, prepare_blocks, fp32_selection,
                                  tail_bias, fp32_attention,   pack_residual};

}  // namespace jenga::cpu
