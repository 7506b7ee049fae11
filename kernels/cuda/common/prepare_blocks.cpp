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

// Centers of the keys, and of the values where those are codes too, whose scales start from the same samples.
CUresult sample_centers(const PrepareArguments& args, CUstream stream) {
  const PrepareBlocksParams& p = args.params;
  const int64_t operands = p.v_scale == nullptr ? 1 : 2, parts = p.head_dim / kSampleChannels;
  return jenga_sample_centers.launch(p.k.dtype, {operands * p.batch * p.heads * parts, kSampleThreads}, stream, args);
}

int64_t int8_tail_cells(const PrepareBlocksParams& params) {
  return params.k_scale == nullptr || params.k_tail == nullptr ? 0 : ceil_div(params.num_video, params.tail_block_size);
}

int64_t tail_mean_elements(const PrepareBlocksParams& params) {
  return params.batch * params.heads * int8_tail_cells(params) * params.head_dim;
}

// Codes of the tail, once its means are there.
CUresult quantise_tail(const PrepareArguments& args, CUstream stream) {
  const PrepareBlocksParams& p = args.params;
  const int64_t cells = int8_tail_cells(p), scales = p.batch * p.heads * scales_of_keys(cells);
  const QuantiseTailArguments tail{args.tail_means, static_cast<int8_t*>(p.k_tail), p.k_tail_scale, cells, p.head_dim};
  return jenga_quantise_tail.launch({scales, kQuantiseThreads}, stream, tail);
}

// Zeros in the tail's blocks of e4m3 values: what no cell writes is read too.
CUresult clear_value_tail(const PrepareBlocksParams& params, CUstream stream) {
  if (params.v_tail == nullptr) return CUDA_SUCCESS;
  const int64_t blocks = ceil_div(ceil_div(params.num_video, params.tail_block_size), kValueBlockKeys);
  const int64_t words = params.batch * params.heads * blocks * params.head_dim * kValueBlockKeys / 4;
  return fill_words(params.v_tail, 0, words, stream);
}

// Scales and codes once more of values that are far beyond the sampled ones. Where there are none, two launches that
// end at once.
CUresult prepare_values_again(const PrepareArguments& args, CUstream stream) {
  const PrepareBlocksParams& p = args.params;
  const int64_t heads = p.batch * p.heads, parts = ceil_div(p.num_context + p.num_video, kScaleRows);
  if (CUresult error = jenga_scale_values.launch(p.v.dtype, {heads * parts, kScaleThreads}, stream, args)) return error;
  return jenga_prepare_values_again.launch(p.v.dtype, {heads * kAgainBlocks, kPrepareThreads}, stream, args);
}

}  // namespace

// The tail means of int8 keys, and behind them a word for every head of e4m3 values.
size_t prepare_blocks_workspace(const PrepareBlocksParams& params) {
  const int64_t heads = params.batch * params.heads, words = params.v_scale == nullptr ? 0 : heads;
  return sizeof(float) * (tail_mean_elements(params) + words);
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
  auto* const tail_means = static_cast<float*>(workspace);
  const auto tiles = [](int64_t rows) { return static_cast<int32_t>(ceil_div(rows, kPrepareRows)); };
  const PrepareArguments args{
      .params = params,
      .context_tiles = tiles(params.num_context),
      .tiles = tiles(params.num_context) + tiles(params.num_video),
      .operands = params.q_means == nullptr ? kOperands - 1 : kOperands,
      .tail_means = tail_means,
      .is_beyond = fp8 ? reinterpret_cast<int32_t*>(tail_means + tail_mean_elements(params)) : nullptr};
  const int64_t grid = params.batch * params.heads * args.operands * args.tiles;
  if (grid == 0) return CUDA_SUCCESS;
  if (int8) {
    if (CUresult error = sample_centers(args, stream)) return error;
  }
  if (fp8) {
    if (CUresult error = clear_value_tail(params, stream)) return error;
  }
  const int index = index_of_lanes(params.head_dim);
  const KernelPair<PrepareArguments>& kernel =
      fp8 ? jenga_prepare_fp8_blocks_16 : *(int8 ? kInt8Kernels[index] : kKernels[index]);
  if (CUresult error = kernel.launch(params.q.dtype, {grid, kPrepareThreads}, stream, args)) return error;
  if (CUresult error = quantise_tail(args, stream)) return error;
  return fp8 ? prepare_values_again(args, stream) : CUDA_SUCCESS;
}

}  // namespace jenga::cuda
