// Centers of keys and values: means of every kSampledRows-th video row along the curve, by which values get their
// scales too (rule: kernels/params.h; what other rows ask for: scale_values.cu). A thread block takes kSampleChannels
// channels of one head, a sector of memory a row: rows are far apart, so that many multiprocessors must ask for them at
// a time. Sums are in a fixed order, so that results repeat to the bit.
#include "kernels/cuda/common/element.h"
#include "kernels/cuda/common/prepare_blocks.h"

namespace jenga::cuda {
namespace {

// Keys first, then values. Head dims are multiples of kSampleChannels.
template <class T>
__device__ __forceinline__ void sample_centers(const PrepareArguments& args) {
  constexpr int kLanes = kSampleChannels / kVectorElements;  // of a row
  constexpr int kGroups = kSampleThreads / kLanes, kWarps = kSampleThreads / 32;
  constexpr int kPasses = 8;  // in flight together
  __shared__ float sums[kWarps][kSampleChannels], lowest[kWarps][kSampleChannels], highest[kWarps][kSampleChannels];
  const PrepareBlocksParams& p = args.params;
  const int heads = static_cast<int>(p.heads), parts = static_cast<int>(p.head_dim) / kSampleChannels;
  const int part = blockIdx.x % parts, index = blockIdx.x / parts;
  const int head = index % heads, operand_batch = index / heads;
  const bool is_value = operand_batch >= p.batch;
  const int64_t batch = operand_batch - (is_value ? p.batch : 0);
  const Strides& strides = is_value ? p.v.strides : p.k.strides;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, channel = lane % kLanes * kVectorElements;
  const T* rows = static_cast<const T*>(is_value ? p.v.data : p.k.data) + batch * strides.batch + head * strides.head +
                  part * kSampleChannels + channel;
  const int32_t* tokens = p.token_index + p.num_context;

  // What is behind the last sample reads that one, as 0: loads without a condition are in flight together.
  const int samples = static_cast<int>(ceil_div(p.num_video, kSampledRows));
  float sum[kVectorElements] = {}, low[kVectorElements], high[kVectorElements];
#pragma unroll
  for (int i = 0; i < kVectorElements; ++i) low[i] = INFINITY, high[i] = -INFINITY;
  for (int first = threadIdx.x / kLanes; first < samples; first += kPasses * kGroups) {
    int64_t token[kPasses];
    uint4 vectors[kPasses];
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass)
      token[pass] = __ldg(tokens + min(first + pass * kGroups, samples - 1) * kSampledRows);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass)
      vectors[pass] = __ldg(reinterpret_cast<const uint4*>(rows + token[pass] * strides.token));
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const bool is_sample = first + pass * kGroups < samples;
      float values[kVectorElements];
      unpack_vector<T>(vectors[pass], values);
#pragma unroll
      for (int i = 0; i < kVectorElements; ++i) {
        sum[i] += is_sample ? values[i] : 0.f;
        low[i] = fminf(low[i], values[i]);  // the last sample, once more, changes nothing
        high[i] = fmaxf(high[i], values[i]);
      }
    }
  }
#pragma unroll
  for (int step = kLanes; step < 32; step *= 2) {
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i) {
      sum[i] += __shfl_xor_sync(0xFFFFFFFFu, sum[i], step);
      low[i] = fminf(low[i], __shfl_xor_sync(0xFFFFFFFFu, low[i], step));
      high[i] = fmaxf(high[i], __shfl_xor_sync(0xFFFFFFFFu, high[i], step));
    }
  }
#pragma unroll
  for (int i = 0; i < kVectorElements && lane < kLanes; ++i) {
    sums[warp][channel + i] = sum[i];
    lowest[warp][channel + i] = low[i];
    highest[warp][channel + i] = high[i];
  }
  __syncthreads();
  if (threadIdx.x >= kSampleChannels) return;
  float total = 0.f, least = INFINITY, most = -INFINITY;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) {
    total += sums[i][threadIdx.x];
    least = fminf(least, lowest[i][threadIdx.x]);
    most = fmaxf(most, highest[i][threadIdx.x]);
  }
  const int64_t batch_head = batch * heads + head;
  const int64_t target = batch_head * p.head_dim + part * kSampleChannels + threadIdx.x;
  const float center = total / static_cast<float>(samples);
  (is_value ? p.v_center : p.k_center)[target] = center;
  if (!is_value) return;
  p.v_scale[target] = fmaxf(most - center, center - least) / kSampledFloat8Max;
  if (part == 0 && threadIdx.x == 0) args.is_beyond[batch_head] = 0;
}

}  // namespace

JENGA_DEFINE_KERNEL_PAIR(jenga_sample_centers, PrepareArguments, (kSampleThreads), sample_centers)

}  // namespace jenga::cuda
