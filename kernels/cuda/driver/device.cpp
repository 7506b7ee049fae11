#include "kernels/cuda/driver/device.h"

#include "kernels/cuda/driver/driver.h"

namespace jenga::cuda {

CUresult device_attribute(CUdevice_attribute attribute, int* value) {
  const Driver* const driver = find_driver();
  if (driver == nullptr) return CUDA_ERROR_NOT_INITIALIZED;
  CUdevice device = 0;
  if (CUresult error = driver->cuCtxGetDevice(&device)) return error;
  return driver->cuDeviceGetAttribute(value, attribute, device);
}

CUresult fill_words(void* target, unsigned value, size_t count, CUstream stream) {
  const Driver* const driver = find_driver();
  if (driver == nullptr) return CUDA_ERROR_NOT_INITIALIZED;
  return driver->cuMemsetD32Async(reinterpret_cast<CUdeviceptr>(target), value, count, stream);
}

DeviceScope::DeviceScope(int device) {
  const Driver* const driver = find_driver();
  if (driver == nullptr || driver->cuDeviceGet(&device_, device) != CUDA_SUCCESS) return;
  CUdevice current = 0;
  if (driver->cuCtxGetDevice(&current) == CUDA_SUCCESS && current == device_) return;
  CUcontext context = nullptr;
  if (driver->cuDevicePrimaryCtxRetain(&context, device_) != CUDA_SUCCESS) return;
  pushed_ = driver->cuCtxPushCurrent(context) == CUDA_SUCCESS;
  if (!pushed_) driver->cuDevicePrimaryCtxRelease(device_);
}

DeviceScope::~DeviceScope() {
  if (!pushed_) return;
  CUcontext context = nullptr;
  find_driver()->cuCtxPopCurrent(&context);
  find_driver()->cuDevicePrimaryCtxRelease(device_);
}

}  // namespace jenga::cuda
