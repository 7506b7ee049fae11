// Launch of the sm_90a attention kernel: copy-engine maps, tile order, persistent grid.
#include "kernels/cuda/sm90/attention.h"

#include "kernels/cuda/sm90/attention_arguments.h"
#include "kernels/cuda/sm90/panels.h"
#include "kernels/cuda/sm90/tensor_map.h"

namespace jenga::cuda::sm90 {
namespace {

CUresult encode_rows(CUtensorMap* map, const BlockSparseAttentionParams& params, const Operand& operand, int64_t rows) {
  // A dimension of size 1 may carry any stride; the encoder wants a valid one.
  const Strides& strides = operand.strides;
  const int64_t head_stride = params.heads > 1 ? strides.head : strides.token;
  const int64_t batch_stride = params.batch > 1 ? strides.batch : strides.token;
  const bool bfloat16 = operand.dtype == DataType::kBFloat16;
  return encode_map(
      map, {.data = operand.data,
            .type = bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
            .sizes = {static_cast<cuuint64_t>(params.head_dim), static_cast<cuuint64_t>(rows),
                      static_cast<cuuint64_t>(params.heads), static_cast<cuuint64_t>(params.batch)},
            .stride_bytes = {static_cast<cuuint64_t>(strides.token) * 2, static_cast<cuuint64_t>(head_stride) * 2,
                             static_cast<cuuint64_t>(batch_stride) * 2},
            .box = {kPanelChannels, kBoxRows, 1, 1},
            .swizzle = CU_TENSOR_MAP_SWIZZLE_128B});
}

constexpr const KernelPair<AttentionArguments>& kernel_of(int head_dim) {
  return head_dim == 64 ? jenga_sm90_attention_64 : jenga_sm90_attention_128;
}

}  // namespace

template <int kHeadDim>
CUresult launch_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  Tickets tickets;
  if (CUresult error = make_tickets(params, workspace, stream, &tickets)) return error;
  if (tickets.number == 0) return CUDA_SUCCESS;
  AttentionArguments args{};
  args.walk = tickets.walk;
  args.next_ticket = tickets.next;
  args.num_tickets = tickets.number;

  const int64_t rows = args.walk.context_blocks * kContextAlignment + params.num_video;
  if (CUresult error = encode_rows(&args.k_map, params, params.k_carved, rows)) return error;
  if (CUresult error = encode_rows(&args.v_map, params, params.v_carved, rows)) return error;
  args.k_tail_map = args.k_map;
  args.v_tail_map = args.v_map;
  if (args.walk.num_tail_cells > 0) {
    const int64_t cells = args.walk.num_tail_cells;
    if (CUresult error = encode_rows(&args.k_tail_map, params, params.k_tail, cells)) return error;
    if (CUresult error = encode_rows(&args.v_tail_map, params, params.v_tail, cells)) return error;
  }
  const LaunchShape shape{tickets.resident, kAttentionThreads, kSharedBytes<kHeadDim>};
  return kernel_of(kHeadDim).launch(params.q.dtype, shape, stream, args);
}

template CUresult launch_attention<64>(const BlockSparseAttentionParams&, void*, CUstream);
template CUresult launch_attention<128>(const BlockSparseAttentionParams&, void*, CUstream);

}  // namespace jenga::cuda::sm90
