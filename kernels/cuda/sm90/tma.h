// The bulk tensor copy engine (TMA): one thread moves a whole box from global to shared memory. Rows outside the
// tensor arrive as zeros and still count as bytes on the barrier.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/sm90/mbarrier.h"

namespace jenga::cuda::sm90 {

__device__ __forceinline__ void tma_prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(map)) : "memory");
}

// Box at (channel, row, head, batch) of a [batch, head, row, channel] tensor.
__device__ __forceinline__ void tma_load(void* shared, const CUtensorMap* map, Barrier* barrier, int channel, int row,
                                         int head, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
      "[%2];" ::"r"(shared_address(shared)),
      "l"(reinterpret_cast<uint64_t>(map)), "r"(shared_address(barrier)), "r"(channel), "r"(row), "r"(head), "r"(batch)
      : "memory");
}

}  // namespace jenga::cuda::sm90
