// What a dropped tail cell counts as (formula: kernels/params.h), with the matrix products of compute capability 8.0.
//
// A warp scores the sampled query cells against eight key cells at a time: a product of two by one tiles of 16 x 8, so
// that the key cells of a tail cell lie in one thread or in neighbours of a quad. In which order channels are summed is
// free, and so every thread takes eight neighbours of a row, one load, for two steps of 16.
#include "kernels/cuda/common/element.h"
#include "kernels/cuda/common/softmax.h"
#include "kernels/cuda/sm80/mma.h"
#include "kernels/cuda/sm80/tail_bias.h"

namespace jenga::cuda::sm80 {
namespace {

constexpr int kWarps = kTailBiasThreads / 32;
constexpr int kTiles = static_cast<int>(kSampledCells) / 16;  // of query cells
constexpr int kMostChunks = static_cast<int>(kMaxHeadDim) / kChunkChannels;
constexpr float kLogOf2 = 0.69314718055994530942f;
constexpr float kLeast = -3e38f;  // below any score
static_assert(kSampledCells % 16 == 0 && kOctets % kWarps == 0);

// Sampled query cells to shared memory, `stride` elements a row; zeros where there is no cell or channel.
template <class T>
__device__ __forceinline__ void load_queries(const TailBiasArguments& args, T* rows, int stride, int64_t head) {
  static_assert(kTailBiasThreads == 4 * kSampledCells);
  const int row = threadIdx.x / 4;
  const bool is_cell = row < args.num_sampled;
  // sampled_cell(row), in 32 bits: a division.
  const int64_t cell = head * args.num_q_cells + (is_cell ? row * args.num_q_cells / args.num_sampled : 0);
  const T* const source = static_cast<const T*>(args.params.q_means) + cell * args.head_dim;
  for (int channel = threadIdx.x % 4 * kVectorElements; channel < stride; channel += kChunkChannels) {
    uint4 loaded = make_uint4(0, 0, 0, 0);
    if (is_cell && channel < args.head_dim) loaded = *reinterpret_cast<const uint4*>(source + channel);
    *reinterpret_cast<uint4*>(rows + row * stride + channel) = loaded;
  }
}

// sums[tile]: products of this warp's query cells with eight key cells, as multiply_add places them. key: of this
// thread's key cell; is_key: whether there is one.
template <class T>
__device__ __forceinline__ void score(float (&sums)[kTiles][4], const T* queries, int stride, const T* key, bool is_key,
                                      int head_dim, int lane) {
  const int first = lane % 4 * kVectorElements;
  uint4 keys[kMostChunks];  // all on their way before the first is used
#pragma unroll
  for (int chunk = 0; chunk < kMostChunks; ++chunk) {
    const int channel = chunk * kChunkChannels + first;
    keys[chunk] = make_uint4(0, 0, 0, 0);
    if (is_key && channel < head_dim) keys[chunk] = *reinterpret_cast<const uint4*>(key + channel);
  }
#pragma unroll
  for (int chunk = 0; chunk < kMostChunks; ++chunk) {
    if (chunk * kChunkChannels >= head_dim) break;
    const uint4& k = keys[chunk];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const T* const row = queries + (tile * 16 + lane / 4) * stride + chunk * kChunkChannels + first;
      const uint4 low = *reinterpret_cast<const uint4*>(row), high = *reinterpret_cast<const uint4*>(row + 8 * stride);
      const uint32_t steps[2][4] = {{low.x, high.x, low.y, high.y}, {low.z, high.z, low.w, high.w}};
      multiply_add<T>(sums[tile], steps[0], k.x, k.y);
      multiply_add<T>(sums[tile], steps[1], k.z, k.w);
    }
  }
}

// Over the threads of a quad that share a tail cell: all exchange, whether they need it or not.
template <class Combine>
__device__ __forceinline__ float over_parts(float value, int parts, Combine combine) {
  const float of_two = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, 1));
  value = parts >= 4 ? of_two : value;
  const float of_four = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, 2));
  return parts >= 8 ? of_four : value;
}
__device__ __forceinline__ float sum_parts(float value, int parts) {
  return over_parts(value, parts, [](float a, float b) { return a + b; });
}

// log2 of the weight of a tail cell's key cells over that of their mean key. scores: base 2, of this thread's two key
// cells; tokens: of those, 0 where there is none; of_count: 1 over those of the tail cell.
__device__ __forceinline__ float log2_count(const float (&scores)[2], const float (&tokens)[2], float of_count,
                                            int parts) {
  const float larger = fmaxf(tokens[0] > 0.f ? scores[0] : kLeast, tokens[1] > 0.f ? scores[1] : kLeast);
  const float top = over_parts(larger, parts, [](float a, float b) { return fmaxf(a, b); });
  const float first = fminf(scores[0] - top, 0.f), second = fminf(scores[1] - top, 0.f);  // above: where none is
  const float weight = fmaf(tokens[0], fast_exp2(first), tokens[1] * fast_exp2(second));
  const float middle = fmaf(tokens[0], first, tokens[1] * second);
  return log2f(sum_parts(weight, parts)) - sum_parts(middle, parts) * of_count;
}

}  // namespace

template <class T>
__device__ __forceinline__ void tail_bias(const TailBiasArguments& args) {
  extern __shared__ __align__(16) uint8_t dynamic_shared[];
  T* const queries = reinterpret_cast<T*>(dynamic_shared);
  const TailBiasParams& p = args.params;
  const int lane = threadIdx.x % 32, warp = __shfl_sync(0xFFFFFFFFu, static_cast<int>(threadIdx.x) / 32, 0);
  const int parts = args.parts, cell_size = static_cast<int>(p.k_cell_size);
  const int stride = (args.head_dim + kChunkChannels - 1) / kChunkChannels * kChunkChannels + kQueryPadding;
  const int64_t head = blockIdx.x / args.blocks_per_head;
  const int block = static_cast<int>(blockIdx.x % args.blocks_per_head);
  const T* const k_means = static_cast<const T*>(p.k_means) + head * args.num_k_cells * args.head_dim;
  load_queries(args, queries, stride, head);
  __syncthreads();

  const int end = min((block + 1) * kOctets * 8, args.num_k_cells);
  for (int first = (block * kOctets + warp) * 8; first < end; first += kWarps * 8) {
    const int key = first + lane / 4;
    float sums[kTiles][4] = {};
    score(sums, queries, stride, k_means + static_cast<int64_t>(key) * args.head_dim, key < args.num_k_cells,
          args.head_dim, lane);

    const int cell = first + lane % 4 * 2;  // of this thread's two key cells the first
    float tokens[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int left = static_cast<int>(p.num_video) - (cell + e) * cell_size;
      tokens[e] = static_cast<float>(min(max(left, 0), cell_size));
    }
    const float count = sum_parts(tokens[0] + tokens[1], parts);
    const float of_count = 1.f / fmaxf(count, 1.f);
    float sum = 0.f;
#pragma unroll
    for (int row = 0; row < 2 * kTiles; ++row) {
      const float* const found = sums[row / 2] + row % 2 * 2;
      const float scores[2] = {found[0] * args.scale_log2, found[1] * args.scale_log2};
      const float of_row = log2_count(scores, tokens, of_count, parts);
      sum += row / 2 * 16 + row % 2 * 8 + lane / 4 < args.num_sampled ? of_row : 0.f;
    }
#pragma unroll
    for (int step = 4; step < 32; step *= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, step);
    // parts is a power of two.
    if (lane < 4 && (cell & (parts - 1)) == 0 && cell < args.num_k_cells)
      p.tail_bias[head * args.num_tail_cells + cell / parts] = sum / static_cast<float>(args.num_sampled) * kLogOf2;
  }
}

}  // namespace jenga::cuda::sm80

namespace jenga::cuda {

JENGA_DEFINE_KERNEL_PAIR(jenga_tail_bias, TailBiasArguments, (sm80::kTailBiasThreads), sm80::tail_bias)

}  // namespace jenga::cuda
