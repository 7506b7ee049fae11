#include "kernels/cuda/sm90/tensor_map.h"

#include "kernels/cuda/driver/driver.h"

namespace jenga::cuda::sm90 {

CUresult encode_map(CUtensorMap* map, const MapShape& shape) {
  const Driver* const driver = find_driver();
  if (driver == nullptr) return CUDA_ERROR_NOT_INITIALIZED;
  const cuuint32_t element_strides[4] = {1, 1, 1, 1};
  return driver->cuTensorMapEncodeTiled(map, shape.type, 4, const_cast<void*>(shape.data), shape.sizes,
                                        shape.stride_bytes, shape.box, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                        shape.swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

}  // namespace jenga::cuda::sm90
