// Launch of the attention kernels with the tiles of sm86/shape.h.
#include "kernels/cuda/sm86/attention.h"

#include "kernels/cuda/sm80/launch.h"
#include "kernels/cuda/sm86/attention_arguments.h"
#include "kernels/cuda/sm86/shape.h"

namespace jenga::cuda::sm86 {

template <int kHeadDim>
CUresult launch_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  using Shape = TileShape<kHeadDim>;
  if (params.head_dim > kHeadDim) return CUDA_ERROR_NOT_SUPPORTED;
  constexpr auto kernel = [] {
    if constexpr (kHeadDim == 128) return &jenga_sm86_attention_128;
    if constexpr (kHeadDim == 192) return &jenga_sm86_attention_192;
    if constexpr (kHeadDim == 256) return &jenga_sm86_attention_256;
  }();
  return sm80::launch(*kernel, Shape::kTilesPerBlock, 3, Shape::plan_offset, params, workspace, stream);
}

template CUresult launch_attention<128>(const BlockSparseAttentionParams&, void*, CUstream);
template CUresult launch_attention<192>(const BlockSparseAttentionParams&, void*, CUstream);
template CUresult launch_attention<256>(const BlockSparseAttentionParams&, void*, CUstream);

}  // namespace jenga::cuda::sm86
