// A host array and its copy on the device. Tests skip where there is no device.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>
#include <vector>

namespace jenga::testing {

inline bool has_device() {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}

// 86 for 8.6; 0 where there is no device.
inline int device_capability() {
  int device = 0, major = 0, minor = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess)
    return 0;
  return 10 * major + minor;
}
inline bool device_is_hopper() { return device_capability() == 90; }

#define JENGA_SKIP_WITHOUT_DEVICE() \
  if (!has_device()) GTEST_SKIP() << "no CUDA device"

template <class Value>
class DeviceArray {
 public:
  // Uninitialised memory is poisoned: every byte 0xFF is a NaN in every float type and -1 in every integer.
  explicit DeviceArray(size_t size) : size_(size) {
    if (size == 0) return;
    if (cudaMalloc(reinterpret_cast<void**>(&pointer_), size * sizeof(Value)) != cudaSuccess ||
        cudaMemset(pointer_, 0xFF, size * sizeof(Value)) != cudaSuccess)
      throw std::runtime_error("cudaMalloc failed");
  }
  explicit DeviceArray(const std::vector<Value>& values) : DeviceArray(values.size()) { upload(values); }
  ~DeviceArray() { cudaFree(pointer_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  void upload(const std::vector<Value>& values) {
    if (!values.empty()) cudaMemcpy(pointer_, values.data(), size_ * sizeof(Value), cudaMemcpyHostToDevice);
  }
  std::vector<Value> download() const {
    std::vector<Value> values(size_);
    if (size_ > 0) cudaMemcpy(values.data(), pointer_, size_ * sizeof(Value), cudaMemcpyDeviceToHost);
    return values;
  }
  Value* get() const { return pointer_; }

 private:
  Value* pointer_ = nullptr;
  size_t size_;
};

}  // namespace jenga::testing
