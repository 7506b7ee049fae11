// Quantised residuals, for any tier (include after simd.h and vector_math.h). A work item is one token, all heads.
#pragma once

#include "kernels/params.h"

namespace jenga::cpu {
namespace {

// codes[head_dim] = the quantised residual of one row, as whole fp32 numbers; returns the scale.
inline float quantise_row(const void* dense, const void* carved, DataType type, int64_t head_dim, float qmax,
                          float* codes) {
  alignas(64) float other[kMaxHeadDim];
  const int64_t padded = round_up(head_dim, kWidth);
  for (int64_t d = head_dim; d < padded; ++d) codes[d] = other[d] = 0;
  load_row(codes, dense, type, head_dim);
  load_row(other, carved, type, head_dim);
  Vec largest = set1(0.0f);
  for (int64_t d = 0; d < padded; d += kWidth) {
    const Vec r = load(codes + d) - load(other + d);
    largest = vmax(largest, vabs(r));
    store(codes + d, r);
  }
  const float scale = top(largest) / qmax;
  for (int64_t d = 0; d < padded; d += kWidth) {
    const Vec steps = scale > 0 ? round(load(codes + d) / set1(scale)) : set1(0.0f);
    const Vec capped = set1(0.0f) - vmax(set1(-qmax), set1(0.0f) - steps);
    store(codes + d, vmax(set1(-qmax), capped));
  }
  return scale;
}

void pack_range(int64_t begin, int64_t end, void* context) {
  const auto& p = *static_cast<const PackResidualParams*>(context);
  const float qmax = p.bits == 8 ? 127.0f : 7.0f;
  alignas(64) float codes[kMaxHeadDim];
  for (int64_t i = begin; i < end; ++i) {
    const int64_t b = i / p.tokens, s = i % p.tokens;
    for (int64_t h = 0; h < p.heads; ++h) {
      const int64_t row = i * p.heads + h;
      const auto row_of = [&](const Operand& x) {
        return at(x.data, b * x.strides.batch + h * x.strides.head + s * x.strides.token, x.dtype);
      };
      p.scale[row] = quantise_row(row_of(p.dense), row_of(p.carved), p.dense.dtype, p.head_dim, qmax, codes);
      if (p.bits == 8) {
        int8_t* out = static_cast<int8_t*>(p.packed) + row * p.head_dim;
        for (int64_t d = 0; d < p.head_dim; ++d) out[d] = static_cast<int8_t>(static_cast<int32_t>(codes[d]));
      } else {
        uint8_t* out = static_cast<uint8_t*>(p.packed) + row * p.head_dim / 2;
        for (int64_t d = 0; d < p.head_dim / 2; ++d) {
          const int32_t low = static_cast<int32_t>(codes[2 * d]), high = static_cast<int32_t>(codes[2 * d + 1]);
          out[d] = static_cast<uint8_t>((low & 15) | (high & 15) << 4);
        }
      }
    }
  }
}

void pack_residual(const PackResidualParams& params, ParallelFor parallel_for) {
  PackResidualParams p = params;
  parallel_for(0, p.batch * p.tokens, 64, pack_range, &p);
}

}  // namespace
}  // namespace jenga::cpu
