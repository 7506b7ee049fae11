// The avx2 tier: fp32 arithmetic for every dtype.
#include "kernels/cpu/avx2/simd.h"
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

const KernelTable avx2_table = {"avx2",    avx2_supported, prepare_blocks, fp32_selection,
                                tail_bias, fp32_attention, pack_residual};

}  // namespace jenga::cpu
