// The one list of attention instantiations, and the choice among them by device, dtype, head dim and layout.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/sm80/attention.h"
#include "kernels/cuda/sm90/attention.h"

namespace jenga::cuda {
namespace {

enum class Arch { kSm80, kSm90 };

struct AttentionKernel {
  Arch arch;
  DataType dtype;
  int64_t head_dim;  // sm90: exactly, sm80: the largest it serves
  cudaError_t (*launch)(const BlockSparseAttentionParams&, void* workspace, cudaStream_t);
};

// The first that fits is taken.
constexpr AttentionKernel kAttentionKernels[] = {
    {Arch::kSm90, DataType::kBFloat16, 128, sm90::launch_attention<__nv_bfloat16, 128>},
    {Arch::kSm90, DataType::kFloat16, 128, sm90::launch_attention<__half, 128>},
    {Arch::kSm90, DataType::kBFloat16, 64, sm90::launch_attention<__nv_bfloat16, 64>},
    {Arch::kSm90, DataType::kFloat16, 64, sm90::launch_attention<__half, 64>},
    {Arch::kSm80, DataType::kBFloat16, 32, sm80::launch_attention<__nv_bfloat16, 32>},
    {Arch::kSm80, DataType::kBFloat16, 64, sm80::launch_attention<__nv_bfloat16, 64>},
    {Arch::kSm80, DataType::kBFloat16, 96, sm80::launch_attention<__nv_bfloat16, 96>},
    {Arch::kSm80, DataType::kBFloat16, 128, sm80::launch_attention<__nv_bfloat16, 128>},
    {Arch::kSm80, DataType::kBFloat16, 192, sm80::launch_attention<__nv_bfloat16, 192>},
    {Arch::kSm80, DataType::kBFloat16, 256, sm80::launch_attention<__nv_bfloat16, 256>},
    {Arch::kSm80, DataType::kFloat16, 32, sm80::launch_attention<__half, 32>},
    {Arch::kSm80, DataType::kFloat16, 64, sm80::launch_attention<__half, 64>},
    {Arch::kSm80, DataType::kFloat16, 96, sm80::launch_attention<__half, 96>},
    {Arch::kSm80, DataType::kFloat16, 128, sm80::launch_attention<__half, 128>},
    {Arch::kSm80, DataType::kFloat16, 192, sm80::launch_attention<__half, 192>},
    {Arch::kSm80, DataType::kFloat16, 256, sm80::launch_attention<__half, 256>},
};

// The kernels JENGA_FORCE_SM leaves: "80" or "90" one of the two, unset or empty both. What else it says fits none.
bool allowed(Arch arch) {
  const char* const forced = std::getenv("JENGA_FORCE_SM");
  return !forced || !*forced || std::string_view(forced) == (arch == Arch::kSm90 ? "90" : "80");
}

bool fits(const AttentionKernel& kernel, const BlockSparseAttentionParams& params, int major) {
  if (!allowed(kernel.arch) || kernel.dtype != params.dtype) return false;
  if (kernel.arch == Arch::kSm90)  // its machine code runs on no other generation
    return major == 9 && kernel.head_dim == params.head_dim && sm90::supports_attention(params);
  return major >= 8 && params.head_dim <= kernel.head_dim && sm80::supports_attention(params);
}

}  // namespace

size_t block_sparse_attention_workspace(const BlockSparseAttentionParams& params) {
  return std::max(sm90::attention_workspace(params), sm80::attention_workspace(params));
}

cudaError_t block_sparse_attention(const BlockSparseAttentionParams& params, void* workspace, cudaStream_t stream) {
  int device = 0, major = 0;
  if (cudaError_t error = cudaGetDevice(&device)) return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device)) return error;
  for (const AttentionKernel& kernel : kAttentionKernels) {
    if (fits(kernel, params, major)) return kernel.launch(params, workspace, stream);
  }
  return cudaErrorNotSupported;
}

}  // namespace jenga::cuda
