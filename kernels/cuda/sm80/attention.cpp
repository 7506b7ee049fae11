// Launch of the sm_80 attention kernels.
#include "kernels/cuda/sm80/attention.h"

#include "kernels/cuda/sm80/int8_shape.h"
#include "kernels/cuda/sm80/launch.h"

namespace jenga::cuda::sm80 {
namespace {

constexpr const KernelPair<AttentionArguments>& kernel_of(int head_dim) {
  switch (head_dim) {
    case 32:
      return jenga_sm80_attention_32;
    case 64:
      return jenga_sm80_attention_64;
    case 96:
      return jenga_sm80_attention_96;
    case 128:
      return jenga_sm80_attention_128;
    case 192:
      return jenga_sm80_attention_192;
    default:
      return jenga_sm80_attention_256;
  }
}

constexpr const KernelPair<AttentionArguments>& int8_kernel_of(int head_dim) {
  return head_dim == 64 ? jenga_sm80_int8_attention_64 : jenga_sm80_int8_attention_128;
}

}  // namespace

template <int kHeadDim>
CUresult launch_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  using Shape = TileShape<kHeadDim>;
  if (params.head_dim > kHeadDim) return CUDA_ERROR_NOT_SUPPORTED;
  return launch(kernel_of(kHeadDim), Shape::kTilesPerBlock, 3, Shape::plan_offset, params, workspace, stream);
}

template <int kHeadDim>
CUresult launch_int8_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  using Shape = Int8Shape<kHeadDim>;
  if (params.head_dim > kHeadDim) return CUDA_ERROR_NOT_SUPPORTED;
  return launch(int8_kernel_of(kHeadDim), Shape::Queries::kTilesPerBlock, 4, Shape::plan_offset, params, workspace,
                stream);
}

template CUresult launch_attention<32>(const BlockSparseAttentionParams&, void*, CUstream);
template CUresult launch_attention<64>(const BlockSparseAttentionParams&, void*, CUstream);
template CUresult launch_attention<96>(const BlockSparseAttentionParams&, void*, CUstream);
template CUresult launch_attention<128>(const BlockSparseAttentionParams&, void*, CUstream);
template CUresult launch_attention<192>(const BlockSparseAttentionParams&, void*, CUstream);
template CUresult launch_attention<256>(const BlockSparseAttentionParams&, void*, CUstream);
template CUresult launch_int8_attention<64>(const BlockSparseAttentionParams&, void*, CUstream);
template CUresult launch_int8_attention<128>(const BlockSparseAttentionParams&, void*, CUstream);

}  // namespace jenga::cuda::sm80
