// Means of coarse cells out of those of up to four key cells each (formula: kernels/params.h). A thread has 8 channels.
#include "kernels/cuda/common/average_cells.h"
#include "kernels/cuda/common/element.h"

namespace jenga::cuda {
namespace {

template <class T>
__device__ __forceinline__ void average_cells(const AverageArguments& args) {
  const SelectBlocksParams& p = args.params;
  const int64_t index = int64_t{blockIdx.x} * kAverageThreads + threadIdx.x;
  if (index >= args.vectors) return;
  const int64_t per_row = p.head_dim / kVectorElements, row = index / per_row, vector = index % per_row;
  const int64_t head = row / p.num_coarse(), coarse = row % p.num_coarse();
  const int64_t cells = p.num_k_cells(), first = coarse * p.cells_per_coarse();
  const uint4* source = static_cast<const uint4*>(p.k_means) + head * cells * per_row + vector;
  float sums[kVectorElements] = {}, tokens = 0.f;
  for (int64_t cell = first; cell < first + p.cells_per_coarse() && cell < cells; ++cell) {
    const auto weight = static_cast<float>(cell + 1 == cells ? p.last_k_cell() : p.k_cell_size());
    float values[kVectorElements];
    unpack_vector<T>(source[cell * per_row], values);
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i) sums[i] = fmaf(weight, values[i], sums[i]);
    tokens += weight;
  }
#pragma unroll
  for (int i = 0; i < kVectorElements; ++i) sums[i] /= tokens;
  static_cast<uint4*>(args.coarse_means)[index] = pack_vector<T>(sums);
}

}  // namespace

JENGA_DEFINE_KERNEL_PAIR(jenga_average_cells, AverageArguments, (kAverageThreads), average_cells)

}  // namespace jenga::cuda
