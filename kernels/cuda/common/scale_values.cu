// Scales of the values of heads in which a row is far beyond the sampled ones, for which v_scale is at launch: no less
// than the largest distance from the center over all tokens that are not masked, divided by 448 (rule:
// kernels/params.h). A thread block looks at kScaleRows carved rows of one head, 16 lanes a row; the largest of all is
// one whatever the order.
#include "kernels/cuda/common/element.h"
#include "kernels/cuda/common/prepare_blocks.h"

namespace jenga::cuda {
namespace {

constexpr int kLanes = static_cast<int>(kFloat8HeadDim) / kVectorElements;
constexpr int kRows = kScaleThreads / kLanes;  // of a pass
constexpr int kPasses = 8;                     // in flight together
static_assert(kScaleRows % (kPasses * kRows) == 0);

template <class T>
__device__ __forceinline__ void scale_values(const PrepareArguments& args) {
  __shared__ float tops[kRows][kFloat8HeadDim];
  const PrepareBlocksParams& p = args.params;
  const int heads = static_cast<int>(p.heads), head_dim = static_cast<int>(p.head_dim);
  const int batch_head = blockIdx.x % (static_cast<int>(p.batch) * heads);
  if (args.is_beyond[batch_head] == 0) return;
  const int part = blockIdx.x / (static_cast<int>(p.batch) * heads);
  const int batch = batch_head / heads, head = batch_head % heads;
  const int group = threadIdx.x / kLanes, channel = threadIdx.x % kLanes * kVectorElements;
  const T* values = static_cast<const T*>(p.v.data) + batch * p.v.strides.batch + head * p.v.strides.head;
  float of_center[kVectorElements];
#pragma unroll
  for (int c = 0; c < kVectorElements; ++c) of_center[c] = p.v_center[int64_t{batch_head} * head_dim + channel + c];
  const int64_t padded = round_up(p.num_context, kContextAlignment), rows = p.num_context + p.num_video;

  float top[kVectorElements] = {};
  for (int first = group; first < kScaleRows; first += kPasses * kRows) {
    uint4 vectors[kPasses];
    bool is_token[kPasses];
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int64_t row = int64_t{part} * kScaleRows + first + pass * kRows;
      const bool masked =
          row < p.num_context && p.context_bias != nullptr && p.context_bias[batch * padded + row] == -INFINITY;
      is_token[pass] = row < rows && !masked;
      vectors[pass] = make_uint4(0, 0, 0, 0);
      if (!is_token[pass]) continue;
      const T* const source = values + p.token_index[row] * p.v.strides.token + channel;
      vectors[pass] = __ldg(reinterpret_cast<const uint4*>(source));
    }
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      float x[kVectorElements];
      unpack_vector<T>(vectors[pass], x);
#pragma unroll
      for (int c = 0; c < kVectorElements; ++c)
        if (is_token[pass]) top[c] = fmaxf(top[c], fabsf(x[c] - of_center[c]));
    }
  }
#pragma unroll
  for (int c = 0; c < kVectorElements; ++c) tops[group][channel + c] = top[c];
  __syncthreads();
  for (int c = threadIdx.x; c < head_dim; c += kScaleThreads) {
    float largest = 0.f;
    for (int i = 0; i < kRows; ++i) largest = fmaxf(largest, tops[i][c]);
    // Floats that are not negative are ordered as their bits.
    atomicMax(reinterpret_cast<int*>(p.v_scale + int64_t{batch_head} * head_dim + c),
              __float_as_int(largest / kFloat8Max));
  }
}

}  // namespace

JENGA_DEFINE_KERNEL_PAIR(jenga_scale_values, PrepareArguments, (kScaleThreads), scale_values)

}  // namespace jenga::cuda
