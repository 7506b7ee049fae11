// Launch of the kernels with int8 keys and e4m3 values out of mma.sync.
#include "kernels/cuda/sm89/fp8_attention.h"

#include "kernels/cuda/sm80/launch.h"
#include "kernels/cuda/sm89/attention_arguments.h"
#include "kernels/cuda/sm89/fp8_shape.h"

namespace jenga::cuda::sm89 {

CUresult launch_fp8_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  return sm80::launch(jenga_sm89_fp8_attention_128, Fp8Shape::Queries::kTilesPerBlock, Fp8Shape::kMostSlots,
                      Fp8Shape::plan_offset, params, workspace, stream);
}

}  // namespace jenga::cuda::sm89
