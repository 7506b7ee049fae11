// The table of attention kernels, and the choice among them: by device, by precision, by what a kernel takes.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdlib>
#include <string_view>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/sm80/attention.h"
#include "kernels/cuda/sm90/attention.h"

namespace jenga::cuda {
namespace {

struct AttentionKernel {
  std::string_view sm;         // what JENGA_FORCE_SM calls it
  bool (*runs_on)(int major);  // compute capability of the device
  Precision precision;
  bool (*supports)(const BlockSparseAttentionParams&);
  size_t (*workspace)(const BlockSparseAttentionParams&);
  cudaError_t (*launch)(const BlockSparseAttentionParams&, void* workspace, cudaStream_t);
};

constexpr Precision kBFloat16{DataType::kBFloat16, DataType::kBFloat16};
constexpr Precision kFloat16{DataType::kFloat16, DataType::kFloat16};

template <class T, int kHeadDim>
constexpr AttentionKernel sm90_row(Precision precision) {
  return {"90",
          sm90::runs_on,
          precision,
          sm90::supports_attention<kHeadDim>,
          sm90::attention_workspace,
          sm90::launch_attention<T, kHeadDim>};
}
template <class T, int kHeadDim>
constexpr AttentionKernel sm80_row(Precision precision) {
  return {"80",
          sm80::runs_on,
          precision,
          sm80::supports_attention<kHeadDim>,
          sm80::attention_workspace,
          sm80::launch_attention<T, kHeadDim>};
}

// The first that fits is taken.
constexpr AttentionKernel kAttentionKernels[] = {
    sm90_row<__nv_bfloat16, 128>(kBFloat16), sm90_row<__half, 128>(kFloat16),
    sm90_row<__nv_bfloat16, 64>(kBFloat16),  sm90_row<__half, 64>(kFloat16),
    sm80_row<__nv_bfloat16, 32>(kBFloat16),  sm80_row<__half, 32>(kFloat16),
    sm80_row<__nv_bfloat16, 64>(kBFloat16),  sm80_row<__half, 64>(kFloat16),
    sm80_row<__nv_bfloat16, 96>(kBFloat16),  sm80_row<__half, 96>(kFloat16),
    sm80_row<__nv_bfloat16, 128>(kBFloat16), sm80_row<__half, 128>(kFloat16),
    sm80_row<__nv_bfloat16, 192>(kBFloat16), sm80_row<__half, 192>(kFloat16),
    sm80_row<__nv_bfloat16, 256>(kBFloat16), sm80_row<__half, 256>(kFloat16),
};

// *kernel: for this call on the current device, null where there is none. JENGA_FORCE_SM leaves one architecture; unset
// or empty leaves all.
cudaError_t choose(const BlockSparseAttentionParams& params, const AttentionKernel** kernel) {
  int device = 0, major = 0;
  if (cudaError_t error = cudaGetDevice(&device)) return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device)) return error;
  const char* const forced = std::getenv("JENGA_FORCE_SM");
  *kernel = nullptr;
  for (const AttentionKernel& row : kAttentionKernels) {
    const bool allowed = !forced || !*forced || row.sm == forced;
    if (!allowed || !row.runs_on(major) || row.precision != precision_of(params) || !row.supports(params)) continue;
    *kernel = &row;
    break;
  }
  return cudaSuccess;
}

}  // namespace

size_t block_sparse_attention_workspace(const BlockSparseAttentionParams& params) {
  const AttentionKernel* kernel = nullptr;
  return choose(params, &kernel) == cudaSuccess && kernel != nullptr ? kernel->workspace(params) : 0;
}

cudaError_t block_sparse_attention(const BlockSparseAttentionParams& params, void* workspace, cudaStream_t stream) {
  const AttentionKernel* kernel = nullptr;
  if (cudaError_t error = choose(params, &kernel)) return error;
  return kernel == nullptr ? cudaErrorNotSupported : kernel->launch(params, workspace, stream);
}

}  // namespace jenga::cuda
