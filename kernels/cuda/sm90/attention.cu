// Launch of the sm_90a attention kernel: copy-engine maps, tile order, persistent grid.
#include <cudaTypedefs.h>

#include <algorithm>

#include "kernels/cuda/common/layout.h"
#include "kernels/cuda/common/tile_order.h"
#include "kernels/cuda/sm90/attention.h"
#include "kernels/cuda/sm90/attention_kernel.h"

namespace jenga::cuda::sm90 {
namespace {

// Found through the runtime, so that nothing links against the driver library.
PFN_cuTensorMapEncodeTiled_v12000 find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result{};
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result) !=
          cudaSuccess ||
      result != cudaDriverEntryPointSuccess)
    return nullptr;
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

cudaError_t encode_map(CUtensorMap* map, const BlockSparseAttentionParams& params, const void* pointer,
                       const Strides& strides, int64_t rows) {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = find_encode();
  if (encode == nullptr) return cudaErrorNotSupported;
  const cuuint64_t sizes[4] = {static_cast<cuuint64_t>(params.head_dim), static_cast<cuuint64_t>(rows),
                               static_cast<cuuint64_t>(params.heads), static_cast<cuuint64_t>(params.batch)};
  // A dimension of size 1 may carry any stride; the encoder wants a valid one.
  const int64_t head_stride = params.heads > 1 ? strides.head : strides.token;
  const int64_t batch_stride = params.batch > 1 ? strides.batch : strides.token;
  const cuuint64_t stride_bytes[3] = {static_cast<cuuint64_t>(strides.token) * 2,
                                      static_cast<cuuint64_t>(head_stride) * 2,
                                      static_cast<cuuint64_t>(batch_stride) * 2};
  const cuuint32_t box[4] = {kPanelChannels, kBoxRows, 1, 1};
  const cuuint32_t element_strides[4] = {1, 1, 1, 1};
  const CUtensorMapDataType type =
      params.dtype == DataType::kBFloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  const CUresult result = encode(map, type, 4, const_cast<void*>(pointer), sizes, stride_bytes, box, element_strides,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
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

}  // namespace

template <class T, int kHeadDim>
cudaError_t launch_attention(const BlockSparseAttentionParams& params, void* workspace, cudaStream_t stream) {
  const int64_t tickets = num_tickets(params);
  if (tickets == 0) return cudaSuccess;
  if (tickets > INT32_MAX) return cudaErrorInvalidConfiguration;
  int32_t* const tile_order = reinterpret_cast<int32_t*>(static_cast<uint8_t*>(workspace) + kTicketBytes);
  AttentionArguments args;
  args.walk = make_tile_walk(params, tile_order);
  args.next_ticket = static_cast<int32_t*>(workspace);
  args.num_tickets = static_cast<int32_t>(tickets);

  const int64_t rows = args.walk.context_blocks * kContextAlignment + params.num_video;
  if (cudaError_t error = encode_map(&args.k_map, params, params.k_carved, params.k_strides, rows)) return error;
  if (cudaError_t error = encode_map(&args.v_map, params, params.v_carved, params.v_strides, rows)) return error;
  args.k_tail_map = args.k_map;
  args.v_tail_map = args.v_map;
  if (args.walk.num_tail_cells > 0) {
    const int64_t cells = args.walk.num_tail_cells;
    const Strides strides{params.heads * cells * kHeadDim, cells * kHeadDim, kHeadDim};
    if (cudaError_t error = encode_map(&args.k_tail_map, params, params.k_tail, strides, cells)) return error;
    if (cudaError_t error = encode_map(&args.v_tail_map, params, params.v_tail, strides, cells)) return error;
  }

  int device = 0, processors = 0;
  if (cudaError_t error = cudaGetDevice(&device)) return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device)) return error;
  constexpr size_t kSharedBytes = sizeof(SharedStorage<kHeadDim>) + 1024;
  const auto kernel = attention_kernel<T, kHeadDim>;
  if (cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedBytes)))
    return error;
  args.walk.first_context_ticket = first_context_ticket(args.walk, processors);

  if (cudaError_t error =
          order_tiles(params.kv_block_count, params.batch * params.heads, args.walk.num_q_blocks, tile_order, stream))
    return error;
  if (cudaError_t error = cudaMemsetAsync(args.next_ticket, 0, sizeof(int32_t), stream)) return error;
  kernel<<<std::min(processors, args.num_tickets), kAttentionThreads, kSharedBytes, stream>>>(args);
  return cudaGetLastError();
}

template cudaError_t launch_attention<__nv_bfloat16, 64>(const BlockSparseAttentionParams&, void*, cudaStream_t);
template cudaError_t launch_attention<__nv_bfloat16, 128>(const BlockSparseAttentionParams&, void*, cudaStream_t);
template cudaError_t launch_attention<__half, 64>(const BlockSparseAttentionParams&, void*, cudaStream_t);
template cudaError_t launch_attention<__half, 128>(const BlockSparseAttentionParams&, void*, cudaStream_t);

}  // namespace jenga::cuda::sm90
