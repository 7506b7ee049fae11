// Launch of the sm_90a attention kernel with int8 keys and e4m3 values.
#include "kernels/cuda/sm90/fp8_attention.h"

namespace jenga::cuda::sm90 {

MapShape key_map(const BlockSparseAttentionParams& params, const Operand& keys, int64_t rows) {
  // A dimension of size 1 may carry any stride; the encoder wants a valid one.
  const int64_t head_stride = params.heads > 1 ? keys.strides.head : keys.strides.token;
  const int64_t batch_stride = params.batch > 1 ? keys.strides.batch : keys.strides.token;
  return {.data = keys.data,
          .type = CU_TENSOR_MAP_DATA_TYPE_UINT8,
          .sizes = {kFp8HeadDim, static_cast<cuuint64_t>(rows), static_cast<cuuint64_t>(params.heads),
                    static_cast<cuuint64_t>(params.batch)},
          .stride_bytes = {static_cast<cuuint64_t>(keys.strides.token), static_cast<cuuint64_t>(head_stride),
                           static_cast<cuuint64_t>(batch_stride)},
          .box = {kFp8HeadDim, kBoxRows, 1, 1},
          .swizzle = CU_TENSOR_MAP_SWIZZLE_128B};
}

MapShape value_map(const BlockSparseAttentionParams& params, const Operand& values, int64_t rows) {
  const auto blocks = static_cast<cuuint64_t>(ceil_div(rows, kValueBlockKeys));
  constexpr cuuint64_t kBlockBytes = kFp8HeadDim * kValueBlockKeys;
  return {.data = values.data,
          .type = CU_TENSOR_MAP_DATA_TYPE_UINT8,
          .sizes = {kValueBlockKeys, kFp8HeadDim, blocks, static_cast<cuuint64_t>(params.batch * params.heads)},
          .stride_bytes = {kValueBlockKeys, kBlockBytes, blocks * kBlockBytes},
          .box = {kValueBlockKeys, kFp8HeadDim, 1, 1},
          .swizzle = CU_TENSOR_MAP_SWIZZLE_64B};
}

CUresult launch_fp8_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  Tickets tickets;
  if (CUresult error = make_tickets(params, workspace, stream, &tickets)) return error;
  if (tickets.number == 0) return CUDA_SUCCESS;
  Fp8Arguments args{};
  args.walk = tickets.walk;
  args.next_ticket = tickets.next;
  args.num_tickets = tickets.number;

  const int64_t rows = args.walk.context_blocks * kContextAlignment + params.num_video;
  if (CUresult error = encode_map(&args.k_map, key_map(params, params.k_carved, rows))) return error;
  if (CUresult error = encode_map(&args.v_map, value_map(params, params.v_carved, rows))) return error;
  args.k_tail_map = args.k_map;
  args.v_tail_map = args.v_map;
  if (args.walk.num_tail_cells > 0) {
    const int64_t cells = args.walk.num_tail_cells;
    if (CUresult error = encode_map(&args.k_tail_map, key_map(params, params.k_tail, cells))) return error;
    if (CUresult error = encode_map(&args.v_tail_map, value_map(params, params.v_tail, cells))) return error;
  }
  const LaunchShape shape{tickets.resident, kAttentionThreads, kFp8SharedBytes};
  return jenga_sm90_fp8_attention_128.launch(params.q.dtype, shape, stream, args);
}

}  // namespace jenga::cuda::sm90
