#include "kernels/cuda/common/prepare_blocks.h"

#include <initializer_list>

#include "kernels/cuda/common/layout.h"
#include "kernels/cuda/launch.h"

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

}  // namespace

CUresult prepare_blocks(const PrepareBlocksParams& params, CUstream stream) {
  if (params.head_dim % kVectorElements != 0 || params.head_dim > kMaxHeadDim) return CUDA_ERROR_NOT_SUPPORTED;
  const auto fits = [](const void* means, int64_t size) { return means == nullptr || cell_size_fits(size); };
  if (!fits(params.q_means, params.q_cell_size) || !fits(params.k_means, params.k_cell_size) ||
      !fits(params.k_tail, params.tail_block_size) || !fits(params.v_tail, params.tail_block_size))
    return CUDA_ERROR_NOT_SUPPORTED;
  const bool int8 = params.k_scale != nullptr;
  if (int8 && (params.head_dim % 16 != 0 || params.head_dim > kMaxInt8HeadDim)) return CUDA_ERROR_NOT_SUPPORTED;
  if (params.v_scale != nullptr) return CUDA_ERROR_NOT_SUPPORTED;  // e4m3 values have no kernel
  for (const Operand* operand : {&params.q, &params.k, &params.v}) {
    if (!has_aligned_rows(*operand, params.batch, params.heads)) return CUDA_ERROR_MISALIGNED_ADDRESS;
  }
  PrepareArguments args{params, 0, 0, params.q_means == nullptr ? kOperands - 1 : kOperands};
  args.context_tiles = static_cast<int32_t>(ceil_div(params.num_context, kPrepareRows));
  args.tiles = args.context_tiles + static_cast<int32_t>(ceil_div(params.num_video, kPrepareRows));
  const int64_t grid = params.batch * params.heads * args.operands * args.tiles;
  if (grid == 0) return CUDA_SUCCESS;
  if (int8) {  // the centers of the keys first
    const LaunchShape heads{params.batch * params.heads, kSampleThreads};
    if (CUresult error = jenga_sample_keys.launch(params.q.dtype, heads, stream, params)) return error;
  }
  const int index = index_of_lanes(params.head_dim);
  const KernelPair<PrepareArguments>& kernel = *(int8 ? kInt8Kernels[index] : kKernels[index]);
  return kernel.launch(params.q.dtype, {grid, kPrepareThreads}, stream, args);
}

}  // namespace jenga::cuda
