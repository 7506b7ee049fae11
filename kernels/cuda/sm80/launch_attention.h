// Launch of one instantiation; included by the file that instantiates it (one per head dim, so that they build in
// parallel).
#pragma once

#include <algorithm>

#include "kernels/cuda/common/tile_order.h"
#include "kernels/cuda/sm80/attention.h"
#include "kernels/cuda/sm80/attention_kernel.h"

namespace jenga::cuda::sm80 {

// As many ring slots as fit without costing a second thread block its place.
template <int kHeadDim>
cudaError_t choose_stages(int64_t kept_bytes, int32_t* stages, int* bytes) {
  int device = 0, per_block = 0, per_processor = 0, reserved = 0;
  if (cudaError_t error = cudaGetDevice(&device)) return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, device))
    return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&per_processor, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device))
    return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&reserved, cudaDevAttrReservedSharedMemoryPerBlock, device))
    return error;
  const auto bytes_with = [&](int64_t slots) {
    return Tile<kHeadDim>::kQueryBytes + slots * Tile<kHeadDim>::kUnitBytes + 2 * kUnitKeys * int64_t{sizeof(float)} +
           int64_t{sizeof(TilePlan)} + kept_bytes;
  };
  const auto resident = [&](int64_t slots) {
    return bytes_with(slots) > per_block ? 0 : std::min<int64_t>(2, per_processor / (bytes_with(slots) + reserved));
  };
  *stages = resident(3) > 0 && resident(3) >= resident(2) ? 3 : 2;
  *bytes = static_cast<int>(bytes_with(*stages));
  return resident(*stages) > 0 ? cudaSuccess : cudaErrorNotSupported;
}

template <class T, int kHeadDim>
cudaError_t launch_attention(const BlockSparseAttentionParams& params, void* workspace, cudaStream_t stream) {
  if (params.head_dim > kHeadDim) return cudaErrorNotSupported;
  AttentionArguments args;
  args.params = params;
  args.tile_order = static_cast<int32_t*>(workspace);
  args.context_blocks = static_cast<int32_t>(ceil_div(params.num_context, kQueryBlock));
  args.num_q_blocks = static_cast<int32_t>(ceil_div(params.num_video, kQueryBlock));
  args.num_kv_blocks = static_cast<int32_t>(ceil_div(params.num_video, params.kv_block_size));
  args.num_tail_cells =
      params.k_tail == nullptr ? 0 : static_cast<int32_t>(ceil_div(params.num_video, params.tail_block_size));
  const int64_t batch_heads = params.batch * params.heads;
  const int64_t grid = batch_heads * (args.context_blocks + args.num_q_blocks) * Tile<kHeadDim>::kTilesPerBlock;
  if (grid == 0) return cudaSuccess;
  if (grid > INT32_MAX) return cudaErrorInvalidConfiguration;

  int bytes = 0;
  const int64_t kept_bytes = args.num_tail_cells > 0 ? ceil_div(args.num_kv_blocks, 32) * int64_t{sizeof(uint32_t)} : 0;
  if (cudaError_t error = choose_stages<kHeadDim>(kept_bytes, &args.stages, &bytes)) return error;
  const auto kernel = attention_kernel<T, kHeadDim>;
  if (cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes))
    return error;
  if (cudaError_t error =
          order_tiles(params.kv_block_count, batch_heads, args.num_q_blocks, static_cast<int32_t*>(workspace), stream))
    return error;
  kernel<<<static_cast<unsigned>(grid), kThreads, bytes, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace jenga::cuda::sm80
