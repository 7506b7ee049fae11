// For which GPU kernels are chosen. JENGA_FORCE_SM=80 (or 86, 89, 90) chooses as on a card of that compute capability,
// to test and time older kernels on a newer GPU.
#pragma once

#include <cstdlib>

#include "kernels/cuda/driver/device.h"

namespace jenga::cuda {

// *capability: of the current context's device, 86 for 8.6, or the forced one.
inline CUresult compute_capability(int* capability) {
  const char* const forced = std::getenv("JENGA_FORCE_SM");
  if (forced != nullptr && *forced != 0) {
    *capability = std::atoi(forced);
    return CUDA_SUCCESS;
  }
  int major = 0, minor = 0;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major)) return error;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor)) return error;
  *capability = 10 * major + minor;
  return CUDA_SUCCESS;
}

}  // namespace jenga::cuda
