// pack_residual: dense - carved, quantised with one scale per token and head (formula: kernels/params.h).
// The lanes that share a row hold 8 channels each; rows run token-major, as they are written.
// 16-byte loads: every row must start on a 16-byte boundary. bf16 and fp16.
#include "kernels/cuda/common/element.h"
#include "kernels/cuda/common/pack_residual.h"

namespace jenga::cuda {
namespace {

template <class T, int kLanes>
__device__ __forceinline__ void pack_residual(const PackResidualParams& p) {
  const int64_t row = (int64_t{blockIdx.x} * kPackThreads + threadIdx.x) / kLanes;  // [B, S, H]
  const int channel = threadIdx.x % kLanes * kVectorElements;
  const bool active = row < p.batch * p.tokens * p.heads && channel < p.head_dim;
  float values[kVectorElements] = {};
  float magnitude = 0.f;
  if (active) {
    const int64_t token_row = row / p.heads, head = row - token_row * p.heads;
    const int64_t batch = token_row / p.tokens, token = token_row - batch * p.tokens;
    const Strides &ds = p.dense.strides, &cs = p.carved.strides;
    float carved[kVectorElements];
    unpack_vector<T>(load_streaming(static_cast<const T*>(p.dense.data) + batch * ds.batch + head * ds.head +
                                    token * ds.token + channel),
                     values);
    unpack_vector<T>(load_streaming(static_cast<const T*>(p.carved.data) + batch * cs.batch + head * cs.head +
                                    token * cs.token + channel),
                     carved);
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i) {
      values[i] -= carved[i];
      magnitude = fmaxf(magnitude, fabsf(values[i]));
    }
  }
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2)
    magnitude = fmaxf(magnitude, __shfl_xor_sync(0xFFFFFFFFu, magnitude, step));
  if (!active) return;

  const float largest = p.bits == 8 ? 127.f : 7.f;
  const float scale = magnitude / largest;
  if (channel == 0) p.scale[row] = scale;
  const int shift = p.bits == 8 ? 8 : 4;
  const uint32_t code_mask = (1u << shift) - 1u;
  uint64_t codes = 0;
#pragma unroll
  for (int i = 0; i < kVectorElements; ++i) {
    const float code = scale > 0.f ? fminf(fmaxf(rintf(values[i] / scale), -largest), largest) : 0.f;
    codes |= static_cast<uint64_t>(static_cast<uint32_t>(static_cast<int>(code)) & code_mask) << (i * shift);
  }
  const int64_t element = row * p.head_dim + channel;
  if (p.bits == 8) {
    *reinterpret_cast<uint64_t*>(static_cast<uint8_t*>(p.packed) + element) = codes;
  } else {
    *reinterpret_cast<uint32_t*>(static_cast<uint8_t*>(p.packed) + element / 2) = static_cast<uint32_t>(codes);
  }
}

}  // namespace

#define JENGA_DEFINE_PACK(lanes) \
  JENGA_DEFINE_KERNEL_PAIR(jenga_pack_residual_##lanes, PackResidualParams, (kPackThreads), pack_residual, lanes)
JENGA_DEFINE_PACK(2)
JENGA_DEFINE_PACK(4)
JENGA_DEFINE_PACK(8)
JENGA_DEFINE_PACK(16)
JENGA_DEFINE_PACK(32)

}  // namespace jenga::cuda
