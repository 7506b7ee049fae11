// The device that launches go to: the one of the current context.
#pragma once

#include <cuda.h>

namespace jenga::cuda {

// Of the current context's device.
CUresult device_attribute(CUdevice_attribute attribute, int* value);

// 32-bit words at `target` in device memory, queued on the stream.
CUresult fill_words(void* target, unsigned value, size_t count, CUstream stream);

// Makes the primary context of a device, which is torch's, the current one of this thread where another or none is;
// until the end of the scope. Where that fails, launches say so.
class DeviceScope {
 public:
  // device: as torch and the driver count them, among the visible ones.
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  CUdevice device_ = 0;
  bool pushed_ = false;
};

}  // namespace jenga::cuda
