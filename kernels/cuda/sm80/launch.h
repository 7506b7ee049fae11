// Launch of the kernels made of mma.sync and cp.async, whatever their shape: tile order, ring slots, grid.
#pragma once

#include <algorithm>

#include "kernels/cuda/common/tile_order.h"
#include "kernels/cuda/driver/device.h"
#include "kernels/cuda/sm80/attention_arguments.h"
#include "kernels/cuda/sm80/shape.h"

namespace jenga::cuda::sm80 {

inline constexpr int kFewSlots = 2;  // of the ring, where more would cost a second thread block its place

// `many` ring slots where they do not cost a second thread block its place, else kFewSlots. bytes_with(slots): shared
// memory of a thread block; *bytes: with the number chosen.
template <class BytesWith>
CUresult choose_slots(int many, BytesWith bytes_with, int32_t* slots, int64_t* bytes) {
  int per_block = 0, per_processor = 0, reserved = 0;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &per_block))
    return error;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, &per_processor))
    return error;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, &reserved)) return error;
  const auto resident = [&](int64_t number) {
    return bytes_with(number) > per_block ? 0 : std::min<int64_t>(2, per_processor / (bytes_with(number) + reserved));
  };
  *slots = resident(many) > 0 && resident(many) >= resident(kFewSlots) ? many : kFewSlots;
  *bytes = bytes_with(*slots);
  return resident(*slots) > 0 ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

// bytes_with(slots): shared memory in front of the plan. many_slots: the most that the kernel takes.
template <class BytesWith>
CUresult launch(const KernelPair<AttentionArguments>& kernel, int tiles_per_block, int many_slots, BytesWith bytes_with,
                const BlockSparseAttentionParams& params, void* workspace, CUstream stream) {
  int32_t* const tile_order = static_cast<int32_t*>(workspace);
  AttentionArguments args{make_tile_walk(params, tile_order), 0};
  const int64_t grid = num_tickets(params) * tiles_per_block;
  if (grid == 0) return CUDA_SUCCESS;
  if (grid > INT32_MAX) return CUDA_ERROR_INVALID_VALUE;

  int64_t bytes = 0;
  const int64_t kept_bytes =
      args.walk.num_tail_cells > 0 ? ceil_div(args.walk.num_kv_blocks, 32) * int64_t{sizeof(uint32_t)} : 0;
  const auto all_bytes = [&](int64_t slots) { return bytes_with(slots) + kPlanBytes + kept_bytes; };
  if (CUresult error = choose_slots(many_slots, all_bytes, &args.slots, &bytes)) return error;
  if (CUresult error =
          order_tiles(params.kv_block_count, params.batch * params.heads, args.walk.num_q_blocks, tile_order, stream))
    return error;
  return kernel.launch(params.q.dtype, {grid, kThreads, bytes}, stream, args);
}

}  // namespace jenga::cuda::sm80
