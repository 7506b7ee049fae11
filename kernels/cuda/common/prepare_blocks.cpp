#include "kernels/cuda/common/prepare_blocks.h"

#include <initializer_list>

#include "kernels/cuda/common/layout.h"
#include "kernels/cuda/driver/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/value_blocks.h"

namespace jenga::cuda {
namespace {

// By lanes: 2, 4, 8, …
constexpr const KernelPair<PrepareArguments>* kKernels[] = {&jenga_prepare_blocks_2, &jenga_prepare_blocks_4,
                                                            &jenga_prepare_blocks_8, &jenga_prepare_blocks_16,
                                                            &jenga_prepare_blocks_32};
constexpr const KernelPair<PrepareArguments>* kInt8Kernels[] = {
    &jenga_prepare_int8_blocks_2, &jenga_prepare_int8_blocks_4, &jenga_prepare_int8_blocks_8,
    &jenga_prepare_int8_blocks_16};

bool cell_size_fits(int64_t size) { return size >= kPieceRows && size <= kPrepareRows && kPrepareRows % size == 0; }

// Centers of the keys, and of the values where those are codes too.
CUresult sample_centers(const PrepareBlocksParams& params, CUstream stream) {
  const int64_t operands = params.v_scale == nullptr ? 1 : 2, parts = params.head_dim / kSampleChannels;
  const int64_t grid = operands * params.batch * params.heads * parts;
  return jenga_sample_centers.launch(params.k.dtype, {grid, kSampleThreads}, stream, params);
}

// Scales of the values, which take a read of all of them, before any becomes a code.
CUresult scale_values(const PrepareBlocksParams& params, CUstream stream) {
  const int64_t heads = params.batch * params.heads, rows = params.num_context + params.num_video;
  if (CUresult error = fill_words(params.v_scale, 0, heads * params.head_dim, stream)) return error;
  if (params.v_tail != nullptr) {  // what no cell writes is read too
    const int64_t blocks = ceil_div(ceil_div(params.num_video, params.tail_block_size), kValueBlockKeys);
    const int64_t words = heads * blocks * params.head_dim * kValueBlockKeys / 4;
    if (CUresult error = fill_words(params.v_tail, 0, words, stream)) return error;
  }
  return jenga_scale_values.launch(params.v.dtype, {heads * ceil_div(rows, kScaleRows), kScaleThreads}, stream, params);
}

int64_t int8_tail_cells(const PrepareBlocksParams& params) {
  return params.k_scale == nullptr || params.k_tail == nullptr ? 0 : ceil_div(params.num_video, params.tail_block_size);
}

// Codes of the tail, once its means are there.
CUresult quantise_tail(const PrepareArguments& args, CUstream stream) {
  const PrepareBlocksParams& p = args.params;
  const int64_t cells = int8_tail_cells(p), scales = p.batch * p.heads * scales_of_keys(cells);
  const QuantiseTailArguments tail{args.tail_means, static_cast<int8_t*>(p.k_tail), p.k_tail_scale, cells, p.head_dim};
  return jenga_quantise_tail.launch({scales, kQuantiseThreads}, stream, tail);
}

}  // namespace

size_t prepare_blocks_workspace(const PrepareBlocksParams& params) {
  return sizeof(float) * params.batch * params.heads * int8_tail_cells(params) * params.head_dim;
}

CUresult prepare_blocks(const PrepareBlocksParams& params, void* workspace, CUstream stream) {
  if (params.head_dim % kVectorElements != 0 || params.head_dim > kMaxHeadDim) return CUDA_ERROR_NOT_SUPPORTED;
  const auto fits = [](const void* means, int64_t size) { return means == nullptr || cell_size_fits(size); };
  if (!fits(params.q_means, params.q_cell_size) || !fits(params.k_means, params.k_cell_size) ||
      !fits(params.k_tail, params.tail_block_size) || !fits(params.v_tail, params.tail_block_size))
    return CUDA_ERROR_NOT_SUPPORTED;
  const bool int8 = params.k_scale != nullptr;
  if (int8 && (params.head_dim % kSampleChannels != 0 || params.head_dim > kMaxInt8HeadDim))
    return CUDA_ERROR_NOT_SUPPORTED;
  const bool fp8 = params.v_scale != nullptr;
  if (fp8 && (!int8 || params.head_dim != kFloat8HeadDim)) return CUDA_ERROR_NOT_SUPPORTED;
  for (const Operand* operand : {&params.q, &params.k, &params.v}) {
    if (!has_aligned_rows(*operand, params.batch, params.heads)) return CUDA_ERROR_MISALIGNED_ADDRESS;
  }
  PrepareArguments args{params, 0, 0, params.q_means == nullptr ? kOperands - 1 : kOperands,
                        static_cast<float*>(workspace)};
  args.context_tiles = static_cast<int32_t>(ceil_div(params.num_context, kPrepareRows));
  args.tiles = args.context_tiles + static_cast<int32_t>(ceil_div(params.num_video, kPrepareRows));
  const int64_t grid = params.batch * params.heads * args.operands * args.tiles;
  if (grid == 0) return CUDA_SUCCESS;
  if (int8) {
    if (CUresult error = sample_centers(params, stream)) return error;
  }
  if (fp8) {
    if (CUresult error = scale_values(params, stream)) return error;
  }
  const int index = index_of_lanes(params.head_dim);
  const KernelPair<PrepareArguments>& kernel =
      fp8 ? jenga_prepare_fp8_blocks_16 : *(int8 ? kInt8Kernels[index] : kKernels[index]);
  if (CUresult error = kernel.launch(params.q.dtype, {grid, kPrepareThreads}, stream, args)) return error;
  return quantise_tail(args, stream);
}

}  // namespace jenga::cuda
