// copy_rows: rows with gaps between them, at the speed of memory (kernels/params.h). Neighbouring lanes copy
// neighbouring 16 bytes, over the ends of rows, and each thread has several of them under way.
#include "kernels/cuda/common/copy_rows.h"
#include "kernels/cuda/common/element.h"

namespace jenga::cuda {
namespace {

// n / d, and what is left.
struct Quotient {
  uint32_t whole, rest;
};
__device__ __forceinline__ Quotient divided(uint32_t n, const Divisor& d) {
  const auto high = static_cast<uint32_t>((uint64_t{n} * d.multiplier) >> 32);
  const uint32_t whole = (n + high) >> d.shift;
  return {whole, n - whole * d.value};
}

__device__ __forceinline__ void copy_rows(const CopyRowsArguments& p) {
  const Quotient plane = divided(blockIdx.x, p.plane_blocks);
  const Quotient head = divided(plane.whole, p.heads);
  const Quotient batch = divided(head.whole, p.batch);
  const CopyRowsParams::Pair& pair = p.pairs[batch.whole];
  const Strides &ss = pair.source_strides, &ts = pair.target_strides;
  const auto* source = static_cast<const uint4*>(pair.source) + batch.rest * ss.batch + head.rest * ss.head;
  auto* target = static_cast<uint4*>(pair.target) + batch.rest * ts.batch + head.rest * ts.head;
  const uint32_t first = plane.rest * static_cast<uint32_t>(kCopyBlockVectors) + threadIdx.x;
  uint4 vectors[kCopyVectors];
#pragma unroll
  for (int i = 0; i < kCopyVectors; ++i) {
    const uint32_t vector = first + i * kCopyThreads;
    const Quotient row = divided(vector, p.row_vectors);
    if (vector < p.plane_vectors) vectors[i] = load_streaming(source + row.whole * ss.token + row.rest);
  }
#pragma unroll
  for (int i = 0; i < kCopyVectors; ++i) {
    const uint32_t vector = first + i * kCopyThreads;
    const Quotient row = divided(vector, p.row_vectors);
    if (vector < p.plane_vectors) target[row.whole * ts.token + row.rest] = vectors[i];
  }
}

}  // namespace

JENGA_DEFINE_KERNEL(jenga_copy_rows, CopyRowsArguments, (kCopyThreads), copy_rows)

}  // namespace jenga::cuda
