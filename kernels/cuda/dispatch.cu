// The one list of attention instantiations, and the choice among them by device, dtype, head dim and layout.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/sm90/attention.h"

namespace jenga::cuda {
namespace {

struct AttentionKernel {
  int major;  // compute capability its machine code is for
  DataType dtype;
  int64_t head_dim;
  bool (*supports)(const BlockSparseAttentionParams&);
  cudaError_t (*launch)(const BlockSparseAttentionParams&, void* workspace, cudaStream_t);
};

// The first that fits is taken.
constexpr AttentionKernel kAttentionKernels[] = {
    {9, DataType::kBFloat16, 128, sm90::supports_attention, sm90::launch_attention<__nv_bfloat16, 128>},
    {9, DataType::kFloat16, 128, sm90::supports_attention, sm90::launch_attention<__half, 128>},
    {9, DataType::kBFloat16, 64, sm90::supports_attention, sm90::launch_attention<__nv_bfloat16, 64>},
    {9, DataType::kFloat16, 64, sm90::supports_attention, sm90::launch_attention<__half, 64>},
};

}  // namespace

size_t block_sparse_attention_workspace(const BlockSparseAttentionParams& params) {
  return sm90::attention_workspace(params);
}

cudaError_t block_sparse_attention(const BlockSparseAttentionParams& params, void* workspace, cudaStream_t stream) {
  int device = 0, major = 0;
  if (cudaError_t error = cudaGetDevice(&device)) return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device)) return error;
  for (const AttentionKernel& kernel : kAttentionKernels) {
    if (kernel.major == major && kernel.dtype == params.dtype && kernel.head_dim == params.head_dim &&
        kernel.supports(params))
      return kernel.launch(params, workspace, stream);
  }
  return cudaErrorNotSupported;
}

}  // namespace jenga::cuda
