// Launch of the sm_90a attention kernel: copy-engine maps, tile order, persistent grid.
#include <cudaTypedefs.h>

#include <algorithm>

#include "kernels/cuda/sm90/attention.h"
#include "kernels/cuda/sm90/attention_kernel.h"

namespace jenga::cuda::sm90 {
namespace {

constexpr int kOrderThreads = 128;
constexpr size_t kTicketBytes = 16;

// Ranks the query blocks of one head by list length, longest first, ties by index: position = number of blocks that go
// before. Quadratic, but a head has some hundred query blocks. Also resets the work counter.
__global__ void order_tiles_kernel(const int32_t* kv_block_count, int num_q_blocks, int32_t* tile_order,
                                   int32_t* next_ticket) {
  __shared__ int32_t counts[kOrderThreads];
  const int64_t head_offset = static_cast<int64_t>(blockIdx.x) * num_q_blocks;
  const int32_t* count = kv_block_count + head_offset;
  const int mine = blockIdx.y * kOrderThreads + threadIdx.x;
  const int32_t my_count = mine < num_q_blocks ? count[mine] : 0;
  int rank = 0;
  for (int first = 0; first < num_q_blocks; first += kOrderThreads) {
    const int other = first + threadIdx.x;
    __syncthreads();
    counts[threadIdx.x] = other < num_q_blocks ? count[other] : -1;
    __syncthreads();
#pragma unroll 16
    for (int i = 0; i < kOrderThreads; ++i) rank += counts[i] > my_count || (counts[i] == my_count && first + i < mine);
  }
  if (mine < num_q_blocks) tile_order[head_offset + rank] = mine;
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *next_ticket = 0;
}

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

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

bool aligned(const BlockSparseAttentionParams& params, const void* pointer, const Strides& strides) {
  return aligned(pointer) && strides.token % 8 == 0 && (params.heads == 1 || strides.head % 8 == 0) &&
         (params.batch == 1 || strides.batch % 8 == 0);
}

int64_t num_q_blocks(const BlockSparseAttentionParams& params) { return ceil_div(params.num_video, kTileRows); }

}  // namespace

bool supports_attention(const BlockSparseAttentionParams& params) {
  if (params.dtype != DataType::kBFloat16 && params.dtype != DataType::kFloat16) return false;
  if (params.head_dim != 64 && params.head_dim != 128) return false;
  if (params.q_block_size != kTileRows || !(params.softmax_scale > 0.f)) return false;
  if (params.kv_block_size != 64 && params.kv_block_size != 128) return false;
  if (params.k_tail != nullptr && ceil_div(params.num_video, params.tail_block_size) > kMaxTailCells) return false;
  return aligned(params, params.q, params.q_strides) && aligned(params, params.k_carved, params.k_strides) &&
         aligned(params, params.v_carved, params.v_strides) && aligned(params, params.out, params.out_strides) &&
         aligned(params.k_tail) && aligned(params.v_tail) && aligned(params.residual);
}

size_t attention_workspace(const BlockSparseAttentionParams& params) {
  return kTicketBytes + sizeof(int32_t) * params.batch * params.heads * num_q_blocks(params);
}

template <class T, int kHeadDim>
cudaError_t launch_attention(const BlockSparseAttentionParams& params, void* workspace, cudaStream_t stream) {
  AttentionArguments args;
  args.params = params;
  args.next_ticket = static_cast<int32_t*>(workspace);
  int32_t* tile_order = reinterpret_cast<int32_t*>(static_cast<uint8_t*>(workspace) + kTicketBytes);
  args.tile_order = tile_order;
  args.context_tiles = static_cast<int32_t>(ceil_div(params.num_context, kTileRows));
  args.num_q_blocks = static_cast<int32_t>(num_q_blocks(params));
  args.num_kv_blocks = static_cast<int32_t>(ceil_div(params.num_video, params.kv_block_size));
  args.num_tail_cells =
      params.k_tail == nullptr ? 0 : static_cast<int32_t>(ceil_div(params.num_video, params.tail_block_size));
  const int64_t batch_heads = params.batch * params.heads;
  args.num_tickets = static_cast<int32_t>(batch_heads * (args.context_tiles + args.num_q_blocks));
  if (args.num_tickets == 0) return cudaSuccess;

  const int64_t rows = int64_t{args.context_tiles} * kTileRows + params.num_video;
  if (cudaError_t error = encode_map(&args.k_map, params, params.k_carved, params.k_strides, rows)) return error;
  if (cudaError_t error = encode_map(&args.v_map, params, params.v_carved, params.v_strides, rows)) return error;
  args.k_tail_map = args.k_map;
  args.v_tail_map = args.v_map;
  if (args.num_tail_cells > 0) {
    const int64_t cells = args.num_tail_cells;
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

  const dim3 order_grid(static_cast<unsigned>(batch_heads),
                        std::max(1u, static_cast<unsigned>(ceil_div(args.num_q_blocks, kOrderThreads))));
  order_tiles_kernel<<<order_grid, kOrderThreads, 0, stream>>>(params.kv_block_count, args.num_q_blocks, tile_order,
                                                               args.next_ticket);
  if (cudaError_t error = cudaGetLastError()) return error;
  kernel<<<std::min(processors, args.num_tickets), kAttentionThreads, kSharedBytes, stream>>>(args);
  return cudaGetLastError();
}

template cudaError_t launch_attention<__nv_bfloat16, 64>(const BlockSparseAttentionParams&, void*, cudaStream_t);
template cudaError_t launch_attention<__nv_bfloat16, 128>(const BlockSparseAttentionParams&, void*, cudaStream_t);
template cudaError_t launch_attention<__half, 64>(const BlockSparseAttentionParams&, void*, cudaStream_t);
template cudaError_t launch_attention<__half, 128>(const BlockSparseAttentionParams&, void*, cudaStream_t);

}  // namespace jenga::cuda::sm90
