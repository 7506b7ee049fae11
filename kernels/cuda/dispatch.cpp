// The table of attention kernels, and the choice among them: by device, by precision, by what a kernel takes.
#include "kernels/cuda/capability.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sm80/attention.h"
#include "kernels/cuda/sm86/attention.h"
#include "kernels/cuda/sm89/fp8_attention.h"
#include "kernels/cuda/sm90/attention.h"
#include "kernels/cuda/sm90/fp8_attention.h"

namespace jenga::cuda {
namespace {

struct AttentionKernel {
  bool (*runs_on)(int capability);  // 86 for 8.6
  Precision precision;
  bool (*supports)(const BlockSparseAttentionParams&);
  size_t (*workspace)(const BlockSparseAttentionParams&);
  CUresult (*launch)(const BlockSparseAttentionParams&, void* workspace, CUstream);
};

constexpr Precision kBFloat16{DataType::kBFloat16, DataType::kBFloat16};
constexpr Precision kFloat16{DataType::kFloat16, DataType::kFloat16};
constexpr Precision kInt8BFloat16{DataType::kInt8, DataType::kBFloat16};
constexpr Precision kInt8Float16{DataType::kInt8, DataType::kFloat16};
constexpr Precision kInt8Float8{DataType::kInt8, DataType::kFloat8};

template <int kHeadDim>
constexpr AttentionKernel sm90_row(Precision precision) {
  return {sm90::runs_on, precision, sm90::supports_attention<kHeadDim>, sm90::attention_workspace,
          sm90::launch_attention<kHeadDim>};
}
template <int kHeadDim>
constexpr AttentionKernel sm86_row(Precision precision) {
  return {sm86::runs_on, precision, sm80::supports_attention<kHeadDim>, sm80::attention_workspace,
          sm86::launch_attention<kHeadDim>};
}
template <int kHeadDim>
constexpr AttentionKernel sm80_row(Precision precision) {
  return {sm80::runs_on, precision, sm80::supports_attention<kHeadDim>, sm80::attention_workspace,
          sm80::launch_attention<kHeadDim>};
}

template <int kHeadDim>
constexpr AttentionKernel sm80_int8_row(Precision precision) {
  return {sm80::runs_on, precision, sm80::supports_int8_attention<kHeadDim>, sm80::attention_workspace,
          sm80::launch_int8_attention<kHeadDim>};
}

constexpr AttentionKernel kSm90Fp8Row = {sm90::runs_on, kInt8Float8, sm90::supports_fp8_attention,
                                         sm90::attention_workspace, sm90::launch_fp8_attention};

constexpr AttentionKernel kSm89Fp8Row = {sm89::runs_on, kInt8Float8, sm89::supports_fp8_attention,
                                         sm80::attention_workspace, sm89::launch_fp8_attention};

// The first that fits is taken: of an architecture before older ones, of smaller head dims before larger ones.
constexpr AttentionKernel kAttentionKernels[] = {
    sm90_row<128>(kBFloat16),
    sm90_row<128>(kFloat16),
    sm90_row<64>(kBFloat16),
    sm90_row<64>(kFloat16),
    sm80_row<32>(kBFloat16),
    sm80_row<32>(kFloat16),
    sm80_row<64>(kBFloat16),
    sm80_row<64>(kFloat16),
    sm80_row<96>(kBFloat16),
    sm80_row<96>(kFloat16),
    sm86_row<128>(kBFloat16),
    sm86_row<128>(kFloat16),
    sm80_row<128>(kBFloat16),
    sm80_row<128>(kFloat16),
    sm86_row<192>(kBFloat16),
    sm86_row<192>(kFloat16),
    sm80_row<192>(kBFloat16),
    sm80_row<192>(kFloat16),
    sm86_row<256>(kBFloat16),
    sm86_row<256>(kFloat16),
    sm80_row<256>(kBFloat16),
    sm80_row<256>(kFloat16),
    sm80_int8_row<64>(kInt8BFloat16),
    sm80_int8_row<64>(kInt8Float16),
    sm80_int8_row<128>(kInt8BFloat16),
    sm80_int8_row<128>(kInt8Float16),
    kSm90Fp8Row,
    kSm89Fp8Row,
};

// *kernel: for this call on the current device, null where there is none.
CUresult choose(const BlockSparseAttentionParams& params, const AttentionKernel** kernel) {
  int capability = 0;
  if (CUresult error = compute_capability(&capability)) return error;
  *kernel = nullptr;
  for (const AttentionKernel& row : kAttentionKernels) {
    if (!row.runs_on(capability) || !(row.precision == precision_of(params)) || !row.supports(params)) continue;
    *kernel = &row;
    break;
  }
  return CUDA_SUCCESS;
}

}  // namespace

size_t block_sparse_attention_workspace(const BlockSparseAttentionParams& params) {
  const AttentionKernel* kernel = nullptr;
  return choose(params, &kernel) == CUDA_SUCCESS && kernel != nullptr ? kernel->workspace(params) : 0;
}

CUresult block_sparse_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  const AttentionKernel* kernel = nullptr;
  if (CUresult error = choose(params, &kernel)) return error;
  return kernel == nullptr ? CUDA_ERROR_NOT_SUPPORTED : kernel->launch(params, workspace, stream);
}

}  // namespace jenga::cuda
