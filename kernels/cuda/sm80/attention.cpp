// Launch of the sm_80 attention kernels: tile order, ring slots, grid.
#include "kernels/cuda/sm80/attention.h"

#include <algorithm>

#include "kernels/cuda/common/tile_order.h"
#include "kernels/cuda/driver/device.h"
#include "kernels/cuda/sm80/attention_arguments.h"
#include "kernels/cuda/sm80/shape.h"

namespace jenga::cuda::sm80 {
namespace {

// As many ring slots as fit without costing a second thread block its place.
template <int kHeadDim>
CUresult choose_slots(int64_t kept_bytes, int32_t* slots, int64_t* bytes) {
  int per_block = 0, per_processor = 0, reserved = 0;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &per_block))
    return error;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, &per_processor))
    return error;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, &reserved)) return error;
  const auto bytes_with = [&](int64_t number) {
    return TileShape<kHeadDim>::kTileBytes + number * TileShape<kHeadDim>::kUnitBytes +
           2 * kUnitKeys * int64_t{sizeof(float)} + kPlanBytes + kept_bytes;
  };
  const auto resident = [&](int64_t number) {
    return bytes_with(number) > per_block ? 0 : std::min<int64_t>(2, per_processor / (bytes_with(number) + reserved));
  };
  *slots = resident(3) > 0 && resident(3) >= resident(2) ? 3 : 2;
  *bytes = bytes_with(*slots);
  return resident(*slots) > 0 ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

template <int kHeadDim>
CUresult launch(const KernelPair<AttentionArguments>& kernel, const BlockSparseAttentionParams& params, void* workspace,
                CUstream stream) {
  if (params.head_dim > kHeadDim) return CUDA_ERROR_NOT_SUPPORTED;
  int32_t* const tile_order = static_cast<int32_t*>(workspace);
  AttentionArguments args{make_tile_walk(params, tile_order), 0};
  const int64_t grid = num_tickets(params) * TileShape<kHeadDim>::kTilesPerBlock;
  if (grid == 0) return CUDA_SUCCESS;
  if (grid > INT32_MAX) return CUDA_ERROR_INVALID_VALUE;

  int64_t bytes = 0;
  const int64_t kept_bytes =
      args.walk.num_tail_cells > 0 ? ceil_div(args.walk.num_kv_blocks, 32) * int64_t{sizeof(uint32_t)} : 0;
  if (CUresult error = choose_slots<kHeadDim>(kept_bytes, &args.slots, &bytes)) return error;
  if (CUresult error =
          order_tiles(params.kv_block_count, params.batch * params.heads, args.walk.num_q_blocks, tile_order, stream))
    return error;
  return kernel.launch(params.q.dtype, {grid, kThreads, bytes}, stream, args);
}

}  // namespace

template <>
CUresult launch_attention<32>(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  return launch<32>(jenga_sm80_attention_32, params, workspace, stream);
}
template <>
CUresult launch_attention<64>(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  return launch<64>(jenga_sm80_attention_64, params, workspace, stream);
}
template <>
CUresult launch_attention<96>(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  return launch<96>(jenga_sm80_attention_96, params, workspace, stream);
}
template <>
CUresult launch_attention<128>(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  return launch<128>(jenga_sm80_attention_128, params, workspace, stream);
}
template <>
CUresult launch_attention<192>(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  return launch<192>(jenga_sm80_attention_192, params, workspace, stream);
}
template <>
CUresult launch_attention<256>(const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  return launch<256>(jenga_sm80_attention_256, params, workspace, stream);
}

}  // namespace jenga::cuda::sm80
