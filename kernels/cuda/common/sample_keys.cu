// The mean of every kSampledRows-th video key, or value, along the curve (rule: kernels/params.h). One thread block a
// head: it reads a sixteenth of the rows. Sums are in a fixed order, so that results repeat to the bit.
#include "kernels/cuda/common/element.h"
#include "kernels/cuda/common/prepare_blocks.h"

namespace jenga::cuda {
namespace {

constexpr int kThreads = kSampleThreads;
constexpr int kVectors = static_cast<int>(kMaxInt8HeadDim) / kVectorElements;  // of the longest row

// center: [B, H, D] of these rows.
template <class T>
__device__ __forceinline__ void sample_rows(const PrepareBlocksParams& p, const Operand& x, float* center) {
  __shared__ float sums[kThreads / kVectors][kMaxInt8HeadDim];
  const int head_dim = static_cast<int>(p.head_dim), heads = static_cast<int>(p.heads);
  const int batch = blockIdx.x / heads, head = blockIdx.x % heads;
  const int group = threadIdx.x / kVectors, channel = threadIdx.x % kVectors * kVectorElements;
  const T* rows = static_cast<const T*>(x.data) + batch * x.strides.batch + head * x.strides.head;
  float sum[kVectorElements] = {};
  if (channel < head_dim) {
    for (int64_t row = group * kSampledRows; row < p.num_video; row += kThreads / kVectors * kSampledRows) {
      float values[kVectorElements];
      unpack_vector<T>(
          __ldg(reinterpret_cast<const uint4*>(rows + p.token_index[p.num_context + row] * x.strides.token + channel)),
          values);
#pragma unroll
      for (int i = 0; i < kVectorElements; ++i) sum[i] += values[i];
    }
  }
#pragma unroll
  for (int i = 0; i < kVectorElements; ++i) sums[group][channel + i] = sum[i];
  __syncthreads();
  const float count = static_cast<float>(ceil_div(p.num_video, kSampledRows));
  for (int c = threadIdx.x; c < head_dim; c += kThreads) {
    float total = 0.f;
    for (int i = 0; i < kThreads / kVectors; ++i) total += sums[i][c];
    center[int64_t{blockIdx.x} * head_dim + c] = total / count;
  }
}

template <class T>
__device__ __forceinline__ void sample_keys(const PrepareBlocksParams& p) {
  sample_rows<T>(p, p.k, p.k_center);
}
template <class T>
__device__ __forceinline__ void sample_values(const PrepareBlocksParams& p) {
  sample_rows<T>(p, p.v, p.v_center);
}

}  // namespace

JENGA_DEFINE_KERNEL_PAIR(jenga_sample_keys, PrepareBlocksParams, (kSampleThreads), sample_keys)
JENGA_DEFINE_KERNEL_PAIR(jenga_sample_values, PrepareBlocksParams, (kSampleThreads), sample_values)

}  // namespace jenga::cuda
