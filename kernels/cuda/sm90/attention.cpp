// Launch of the sm_90a attention kernel: copy-engine maps, tile order, persistent grid.
#include "kernels/cuda/sm90/attention.h"

#include <algorithm>

#include "kernels/cuda/common/tile_order.h"
#include "kernels/cuda/driver/device.h"
#include "kernels/cuda/driver/driver.h"
#include "kernels/cuda/sm90/attention_arguments.h"
#include "kernels/cuda/sm90/panels.h"

namespace jenga::cuda::sm90 {
namespace {

CUresult encode_map(CUtensorMap* map, const BlockSparseAttentionParams& params, const Operand& operand, int64_t rows) {
  const Driver* const driver = find_driver();
  if (driver == nullptr) return CUDA_ERROR_NOT_INITIALIZED;
  const cuuint64_t sizes[4] = {static_cast<cuuint64_t>(params.head_dim), static_cast<cuuint64_t>(rows),
                               static_cast<cuuint64_t>(params.heads), static_cast<cuuint64_t>(params.batch)};
  // A dimension of size 1 may carry any stride; the encoder wants a valid one.
  const Strides& strides = operand.strides;
  const int64_t head_stride = params.heads > 1 ? strides.head : strides.token;
  const int64_t batch_stride = params.batch > 1 ? strides.batch : strides.token;
  const cuuint64_t stride_bytes[3] = {static_cast<cuuint64_t>(strides.token) * 2,
                                      static_cast<cuuint64_t>(head_stride) * 2,
                                      static_cast<cuuint64_t>(batch_stride) * 2};
  const cuuint32_t box[4] = {kPanelChannels, kBoxRows, 1, 1};
  const cuuint32_t element_strides[4] = {1, 1, 1, 1};
  const CUtensorMapDataType type =
      operand.dtype == DataType::kBFloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  return driver->cuTensorMapEncodeTiled(map, type, 4, const_cast<void*>(operand.data), sizes, stride_bytes, box,
                                        element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

// So many heads come after the context tiles that their work lasts as long as the context tiles of one processor.
int32_t first_context_ticket(const TileWalk& walk, int64_t processors) {
  const int64_t batch_heads = walk.params.batch * walk.params.heads;
  const int64_t blocks_after =
      ceil_div(batch_heads * walk.context_blocks, processors) * processors * walk.num_kv_blocks;
  const int64_t blocks_of_a_head = std::max<int64_t>(1, walk.num_q_blocks * walk.params.max_kv);
  const int64_t heads_after = std::min(batch_heads, ceil_div(blocks_after, blocks_of_a_head));
  return static_cast<int32_t>((batch_heads - heads_after) * walk.num_q_blocks);
}

constexpr const KernelPair<AttentionArguments>& kernel_of(int head_dim) {
  return head_dim == 64 ? jenga_sm90_attention_64 : jenga_sm90_attention_128;
}

}  // namespace

template <int kHeadDim>
CUresult launch_attention(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  const int64_t tickets = num_tickets(params);
  if (tickets == 0) return CUDA_SUCCESS;
  if (tickets > INT32_MAX) return CUDA_ERROR_INVALID_VALUE;
  int32_t* const tile_order = reinterpret_cast<int32_t*>(static_cast<uint8_t*>(workspace) + kTicketBytes);
  AttentionArguments args{};
  args.walk = make_tile_walk(params, tile_order);
  args.next_ticket = static_cast<int32_t*>(workspace);
  args.num_tickets = static_cast<int32_t>(tickets);

  const int64_t rows = args.walk.context_blocks * kContextAlignment + params.num_video;
  if (CUresult error = encode_map(&args.k_map, params, params.k_carved, rows)) return error;
  if (CUresult error = encode_map(&args.v_map, params, params.v_carved, rows)) return error;
  args.k_tail_map = args.k_map;
  args.v_tail_map = args.v_map;
  if (args.walk.num_tail_cells > 0) {
    const int64_t cells = args.walk.num_tail_cells;
    if (CUresult error = encode_map(&args.k_tail_map, params, params.k_tail, cells)) return error;
    if (CUresult error = encode_map(&args.v_tail_map, params, params.v_tail, cells)) return error;
  }

  int processors = 0;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &processors)) return error;
  args.walk.first_context_ticket = first_context_ticket(args.walk, processors);

  if (CUresult error =
          order_tiles(params.kv_block_count, params.batch * params.heads, args.walk.num_q_blocks, tile_order, stream))
    return error;
  if (CUresult error = fill_words(args.next_ticket, 0, 1, stream)) return error;
  const LaunchShape shape{std::min(processors, args.num_tickets), kAttentionThreads, kSharedBytes<kHeadDim>};
  return kernel_of(kHeadDim).launch(params.q.dtype, shape, stream, args);
}

template CUresult launch_attention<64>(const BlockSparseAttentionParams&, void*, CUstream);
template CUresult launch_attention<128>(const BlockSparseAttentionParams&, void*, CUstream);

}  // namespace jenga::cuda::sm90
