#include <cstdint>

#include "kernels/cuda/common/layout.h"
#include "kernels/cuda/sm80/attention.h"

namespace jenga::cuda::sm80 {

bool supports_attention(const BlockSparseAttentionParams& params) {
  return params.head_dim >= 8 && params.head_dim % 8 == 0 && params.head_dim <= kMaxHeadDim &&
         has_kernel_layout(params);
}

size_t attention_workspace(const BlockSparseAttentionParams& params) {
  return sizeof(int32_t) * params.batch * params.heads * ceil_div(params.num_video, kQueryBlockRows);
}

}  // namespace jenga::cuda::sm80
