// What the copy engine is told of a tensor of four dimensions, the contiguous one first.
#pragma once

#include <cuda.h>

namespace jenga::cuda::sm90 {

struct MapShape {
  const void* data;
  CUtensorMapDataType type;
  cuuint64_t sizes[4];
  cuuint64_t stride_bytes[3];  // of all dimensions but the first
  cuuint32_t box[4];           // elements of one copy
  CUtensorMapSwizzle swizzle;
};

// Rows and boxes past the end arrive as zeros.
CUresult encode_map(CUtensorMap* map, const MapShape& shape);

}  // namespace jenga::cuda::sm90
