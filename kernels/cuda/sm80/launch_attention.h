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
cudaError_t choose_slots(int64_t kept_bytes, int32_t* slots, int* bytes) {
  int device = 0, per_block = 0, per_processor = 0, reserved = 0;
  if (cudaError_t error = cudaGetDevice(&device)) return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, device))
    return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&per_processor, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device))
    return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&reserved, cudaDevAttrReservedSharedMemoryPerBlock, device))
    return error;
  const auto bytes_with = [&](int64_t number) {
    return TileShape<kHeadDim>::kTileBytes + number * TileShape<kHeadDim>::kUnitBytes +
           2 * kUnitKeys * int64_t{sizeof(float)} + int64_t{sizeof(TilePlan)} + kept_bytes;
  };
  const auto resident = [&](int64_t number) {
    return bytes_with(number) > per_block ? 0 : std::min<int64_t>(2, per_processor / (bytes_with(number) + reserved));
  };
  *slots = resident(3) > 0 && resident(3) >= resident(2) ? 3 : 2;
  *bytes = static_cast<int>(bytes_with(*slots));
  return resident(*slots) > 0 ? cudaSuccess : cudaErrorNotSupported;
}

template <class T, int kHeadDim>
cudaError_t launch_attention(const BlockSparseAttentionParams& params, void* workspace, cudaStream_t stream) {
  if (params.head_dim > kHeadDim) return cudaErrorNotSupported;
  int32_t* const tile_order = static_cast<int32_t*>(workspace);
  AttentionArguments args{make_tile_walk(params, tile_order), 0};
  const int64_t grid = num_tickets(params) * TileShape<kHeadDim>::kTilesPerBlock;
  if (grid == 0) return cudaSuccess;
  if (grid > INT32_MAX) return cudaErrorInvalidConfiguration;

  int bytes = 0;
  const int64_t kept_bytes =
      args.walk.num_tail_cells > 0 ? ceil_div(args.walk.num_kv_blocks, 32) * int64_t{sizeof(uint32_t)} : 0;
  if (cudaError_t error = choose_slots<kHeadDim>(kept_bytes, &args.slots, &bytes)) return error;
  const auto kernel = attention_kernel<T, kHeadDim>;
  if (cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes))
    return error;
  if (cudaError_t error =
          order_tiles(params.kv_block_count, params.batch * params.heads, args.walk.num_q_blocks, tile_order, stream))
    return error;
  kernel<<<static_cast<unsigned>(grid), kThreads, bytes, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace jenga::cuda::sm80
