// Means of coarse cells out of those of up to four key cells each (formula: kernels/params.h). A thread has 8 channels.
#include "kernels/cuda/common/element.h"
#include "kernels/cuda/common/score_cells.h"

namespace jenga::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads)
    average_cells_kernel(const __grid_constant__ SelectBlocksParams p, T* coarse_means, int64_t vectors) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= vectors) return;
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
  reinterpret_cast<uint4*>(coarse_means)[index] = pack_vector<T>(sums);
}

template <class T>
cudaError_t launch(const SelectBlocksParams& p, void* coarse_means, cudaStream_t stream) {
  const int64_t vectors = p.batch * p.heads * p.num_coarse() * (p.head_dim / kVectorElements);
  const int64_t grid = ceil_div(vectors, kThreads);
  if (grid > INT32_MAX) return cudaErrorInvalidConfiguration;
  average_cells_kernel<<<static_cast<unsigned>(grid), kThreads, 0, stream>>>(p, static_cast<T*>(coarse_means), vectors);
  return cudaGetLastError();
}

}  // namespace

cudaError_t average_cells(const SelectBlocksParams& params, void* coarse_means, cudaStream_t stream) {
  if (params.head_dim % kVectorElements != 0) return cudaErrorNotSupported;
  if (params.dtype == DataType::kBFloat16) return launch<__nv_bfloat16>(params, coarse_means, stream);
  if (params.dtype == DataType::kFloat16) return launch<__half>(params, coarse_means, stream);
  return cudaErrorNotSupported;
}

}  // namespace jenga::cuda
