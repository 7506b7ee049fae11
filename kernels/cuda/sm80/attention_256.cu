#include "kernels/cuda/sm80/launch_attention.h"

namespace jenga::cuda::sm80 {

template cudaError_t launch_attention<__nv_bfloat16, 256>(const BlockSparseAttentionParams&, void*, cudaStream_t);
template cudaError_t launch_attention<__half, 256>(const BlockSparseAttentionParams&, void*, cudaStream_t);

}  // namespace jenga::cuda::sm80
