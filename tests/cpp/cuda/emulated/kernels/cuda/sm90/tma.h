// The copy engine of kernels/cuda/sm90/tma.h. A tensor map holds the shape that it is made of (bytes alone): copies
// arrive in the swizzled order, with zeros outside the tensor.
#pragma once

#include "kernels/cuda/sm90/tensor_map.h"
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/mbarrier.h"
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/swizzle.h"

namespace jenga::cuda::sm90 {

inline CUtensorMap emulated_map(const MapShape& shape) {
  static_assert(sizeof shape <= sizeof(CUtensorMap));
  CUtensorMap map{};
  std::memcpy(&map, &shape, sizeof shape);
  return map;
}

inline void tma_prefetch_map(const CUtensorMap*) {}

inline void copy_box(void* shared, const CUtensorMap* map, Barrier* barrier, int channel, int row, int head,
                     int batch) {
  MapShape shape;
  std::memcpy(&shape, map, sizeof shape);
  const int width = shape.swizzle == CU_TENSOR_MAP_SWIZZLE_128B ? 128 : 64;
  const uint32_t start = shared_address(shared), rows = shape.box[1] * shape.box[2] * shape.box[3];
  if (shape.box[0] != static_cast<uint32_t>(width) || start % (8 * width) != 0) std::abort();
  for (uint32_t i = 0; i < rows; ++i) {
    const int64_t at[4] = {channel, row + i % shape.box[1], head + i / shape.box[1] % shape.box[2],
                           batch + i / shape.box[1] / shape.box[2]};
    const uint8_t* source = static_cast<const uint8_t*>(shape.data);
    bool inside = true;
    for (int d = 1; d < 4; ++d) {
      inside = inside && at[d] >= 0 && at[d] < static_cast<int64_t>(shape.sizes[d]);
      source += at[d] * static_cast<int64_t>(shape.stride_bytes[d - 1]);
    }
    for (int byte = 0; byte < width; ++byte) {
      const bool exists = inside && at[0] + byte < static_cast<int64_t>(shape.sizes[0]);
      shared_memory[swizzled(start + i * width + byte, width)] = exists ? source[at[0] + byte] : 0;
    }
  }
  barrier_receive(barrier, rows * width);
}

inline void tma_load(void* shared, const CUtensorMap* map, Barrier* barrier, int channel, int row, int head,
                     int batch) {
  copies_under_way.push_back([=] { copy_box(shared, map, barrier, channel, row, head, batch); });
}

}  // namespace jenga::cuda::sm90
