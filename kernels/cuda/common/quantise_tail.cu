// Tail means about the center to int8 codes, rotated, kKeyScaleRows of them with one scale (rule: kernels/params.h).
// One thread block a scale, which holds all that share it in registers.
#include "kernels/cuda/common/hadamard.h"
#include "kernels/cuda/common/prepare_blocks.h"
#include "kernels/cuda/common/quantise.h"

namespace jenga::cuda {
namespace {

constexpr int kFour = 4;  // channels of a load
constexpr int kLoads = static_cast<int>(kKeyScaleRows * kMaxInt8HeadDim) / kFour / kQuantiseThreads;

__device__ __forceinline__ void quantise_tail(const QuantiseTailArguments& args) {
  __shared__ float tops[kQuantiseThreads / 32];
  const int scales = static_cast<int>(scales_of_keys(args.cells));
  const int64_t head = blockIdx.x / scales, first = blockIdx.x % scales * kKeyScaleRows;
  const int64_t cells = args.cells - first < kKeyScaleRows ? args.cells - first : kKeyScaleRows;
  const int64_t start = (head * args.cells + first) * args.head_dim;
  const int fours = static_cast<int>(cells * args.head_dim) / kFour;
  const auto* const means = reinterpret_cast<const float4*>(args.means + start);
  const int size = static_cast<int>(rotation_size(args.head_dim));
  float rest[kLoads][kFour];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int four = i * kQuantiseThreads + threadIdx.x;
    const float4 mean = four < fours ? means[four] : make_float4(0.f, 0.f, 0.f, 0.f);
    rest[i][0] = mean.x, rest[i][1] = mean.y, rest[i][2] = mean.z, rest[i][3] = mean.w;
  }
  hadamard<32>(rest, size);
  float top = largest_of_lanes<32>(largest_magnitude(rest));
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = top;
  __syncthreads();
#pragma unroll
  for (float of_warp : tops) top = fmaxf(top, of_warp);
  const auto [scale, inverse] = RotatedScale(top, size);
  auto* const codes = reinterpret_cast<uint32_t*>(args.codes + start);
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int four = i * kQuantiseThreads + threadIdx.x;
    const float(&x)[kFour] = rest[i];
    if (four < fours) codes[four] = int8_codes(x[0] * inverse, x[1] * inverse, x[2] * inverse, x[3] * inverse);
  }
  if (threadIdx.x == 0) args.scales[blockIdx.x] = scale;
}

}  // namespace

JENGA_DEFINE_KERNEL(jenga_quantise_tail, QuantiseTailArguments, (kQuantiseThreads), quantise_tail)

}  // namespace jenga::cuda
