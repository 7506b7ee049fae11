#include "kernels/cuda/common/copy_rows.h"

#include "kernels/cuda/common/layout.h"
#include "kernels/cuda/launch.h"

namespace jenga::cuda {
namespace {

constexpr int64_t kVectorBytes = 16, kMostToDivide = INT32_MAX;

// value: 1 .. kMostToDivide.
Divisor divisor(int64_t value) {
  uint32_t shift = 0;
  while (int64_t{1} << shift < value) ++shift;
  const auto number = static_cast<uint64_t>(value);
  const uint64_t multiplier = ((((uint64_t{1} << shift) - number) << 32) / number) + 1;
  return {static_cast<uint32_t>(value), static_cast<uint32_t>(multiplier), shift};
}

// Whether every row starts on 16 bytes.
bool has_aligned_rows(const void* data, const Strides& strides, const CopyRowsParams& p) {
  const auto fits = [](int64_t size, int64_t stride) { return size == 1 || stride % kVectorBytes == 0; };
  return is_aligned(data) && fits(p.batch, strides.batch) && fits(p.heads, strides.head) &&
         fits(p.tokens, strides.token);
}

// The heads of a token as one row where they lie side by side in all pairs.
CopyRowsParams with_joined_heads(CopyRowsParams p) {
  for (int64_t i = 0; i < p.num_pairs; ++i) {
    const auto& pair = p.pairs[i];
    if (pair.source_strides.head != p.row_bytes || pair.target_strides.head != p.row_bytes) return p;
  }
  p.row_bytes *= p.heads;
  p.heads = 1;
  return p;
}

Strides in_vectors(const Strides& bytes) {
  return {bytes.batch / kVectorBytes, bytes.head / kVectorBytes, bytes.token / kVectorBytes};
}

}  // namespace

CUresult copy_rows_arguments(const CopyRowsParams& params, CopyRowsArguments* arguments, int64_t* thread_blocks) {
  *thread_blocks = 0;
  if (params.num_pairs > kMostRowCopies) return CUDA_ERROR_INVALID_VALUE;
  if (params.num_pairs * params.batch * params.heads * params.tokens * params.row_bytes == 0) return CUDA_SUCCESS;
  if (params.row_bytes % kVectorBytes != 0) return CUDA_ERROR_MISALIGNED_ADDRESS;
  for (int64_t i = 0; i < params.num_pairs; ++i) {
    const auto& pair = params.pairs[i];
    if (!has_aligned_rows(pair.source, pair.source_strides, params) ||
        !has_aligned_rows(pair.target, pair.target_strides, params))
      return CUDA_ERROR_MISALIGNED_ADDRESS;
  }
  const CopyRowsParams p = with_joined_heads(params);
  const int64_t row_vectors = p.row_bytes / kVectorBytes, plane_vectors = p.tokens * row_vectors;
  if (plane_vectors > kMostToDivide - kCopyBlockVectors) return CUDA_ERROR_INVALID_VALUE;
  const int64_t plane_blocks = ceil_div(plane_vectors, kCopyBlockVectors);
  const int64_t blocks = p.num_pairs * p.batch * p.heads * plane_blocks;
  if (blocks > kMostToDivide) return CUDA_ERROR_INVALID_VALUE;
  *arguments = {{},
                divisor(plane_blocks),
                divisor(p.heads),
                divisor(p.batch),
                divisor(row_vectors),
                static_cast<uint32_t>(plane_vectors)};
  for (int64_t i = 0; i < p.num_pairs; ++i) {
    const auto& pair = p.pairs[i];
    arguments->pairs[i] = {pair.source, pair.target, in_vectors(pair.source_strides), in_vectors(pair.target_strides)};
  }
  *thread_blocks = blocks;
  return CUDA_SUCCESS;
}

CUresult copy_rows(const CopyRowsParams& params, CUstream stream) {
  CopyRowsArguments arguments;
  int64_t thread_blocks = 0;
  if (CUresult error = copy_rows_arguments(params, &arguments, &thread_blocks)) return error;
  return jenga_copy_rows.launch({thread_blocks, kCopyThreads}, stream, arguments);
}

}  // namespace jenga::cuda
