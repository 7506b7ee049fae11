// The entry points of NVIDIA's driver, looked up at run time: nothing of CUDA is linked, and a library that has them
// loads where there is no driver.
#pragma once

#include <cuda.h>

#include <string>

namespace jenga::cuda {

// All are there since CUDA 12.0. cuda.h makes the current version's name of each.
#define JENGA_DRIVER_FUNCTIONS(X) \
  X(cuInit)                       \
  X(cuGetErrorName)               \
  X(cuGetErrorString)             \
  X(cuDeviceGet)                  \
  X(cuDeviceGetAttribute)         \
  X(cuDevicePrimaryCtxRetain)     \
  X(cuDevicePrimaryCtxRelease)    \
  X(cuCtxGetDevice)               \
  X(cuCtxPushCurrent)             \
  X(cuCtxPopCurrent)              \
  X(cuLibraryLoadData)            \
  X(cuLibraryGetKernel)           \
  X(cuKernelSetAttribute)         \
  X(cuLaunchKernelEx)             \
  X(cuMemsetD32Async)             \
  X(cuTensorMapEncodeTiled)       \
  X(cuThreadExchangeStreamCaptureMode)

struct Driver {
#define JENGA_DECLARE_FUNCTION(name) decltype(&::name) name = nullptr;
  JENGA_DRIVER_FUNCTIONS(JENGA_DECLARE_FUNCTION)
#undef JENGA_DECLARE_FUNCTION
};

// Looked up once; null where there is no driver or one that is too old: launches then give CUDA_ERROR_NOT_INITIALIZED.
const Driver* find_driver();

// Why find_driver gives null, and what to do; empty where it does not.
const std::string& driver_refusal();

// What the driver calls an error: name and text.
std::string error_text(CUresult error);

}  // namespace jenga::cuda
