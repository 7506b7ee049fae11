#include "kernels/cuda/driver/kernel.h"

#include <mutex>

#include "kernels/cuda/driver/driver.h"

namespace jenga::cuda {
namespace {

// Of all code and handles: taken for some nanoseconds a launch, and while code loads.
std::mutex loading;

// Code may be loaded under a stream capture of this thread: loading is no work that a graph should repeat.
class CaptureRelaxed {
 public:
  explicit CaptureRelaxed(const Driver& driver) : driver_(driver) { driver_.cuThreadExchangeStreamCaptureMode(&mode_); }
  ~CaptureRelaxed() { driver_.cuThreadExchangeStreamCaptureMode(&mode_); }
  CaptureRelaxed(const CaptureRelaxed&) = delete;
  CaptureRelaxed& operator=(const CaptureRelaxed&) = delete;

 private:
  const Driver& driver_;
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
};

}  // namespace

CUresult Code::find(const char* name, CUkernel* kernel) {
  const Driver& driver = *find_driver();
  const CaptureRelaxed relaxed(driver);
  if (library_ == nullptr) {
    if (CUresult error = driver.cuLibraryLoadData(&library_, bytes_, nullptr, nullptr, 0, nullptr, nullptr, 0)) {
      library_ = nullptr;
      return error;
    }
  }
  return driver.cuLibraryGetKernel(kernel, library_, name);
}

CUresult KernelHandle::load(CUkernel* kernel) {
  const std::lock_guard lock(loading);
  if (kernel_ == nullptr) {
    if (CUresult error = code_.find(name_, &kernel_)) {
      kernel_ = nullptr;
      return error;
    }
  }
  *kernel = kernel_;
  return CUDA_SUCCESS;
}

CUresult KernelHandle::launch(const LaunchShape& shape, CUstream stream, void* argument) {
  if (shape.grid == 0) return CUDA_SUCCESS;
  if (shape.grid > INT32_MAX || shape.shared_bytes > INT32_MAX) return CUDA_ERROR_INVALID_VALUE;
  const Driver* const driver = find_driver();
  if (driver == nullptr) return CUDA_ERROR_NOT_INITIALIZED;
  CUkernel kernel = nullptr;
  if (CUresult error = load(&kernel)) return error;
  if (shape.shared_bytes > 0) {
    CUdevice device = 0;
    if (CUresult error = driver->cuCtxGetDevice(&device)) return error;
    if (CUresult error = driver->cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                                      static_cast<int>(shape.shared_bytes), kernel, device))
      return error;
  }
  CUlaunchConfig config{};
  config.gridDimX = static_cast<unsigned>(shape.grid);
  config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = static_cast<unsigned>(shape.threads);
  config.blockDimY = config.blockDimZ = 1;
  config.sharedMemBytes = static_cast<unsigned>(shape.shared_bytes);
  config.hStream = stream;
  // The driver takes a kernel in the place of a function, and the context from the stream.
  void* parameters[] = {argument};
  return driver->cuLaunchKernelEx(&config, reinterpret_cast<CUfunction>(kernel), parameters, nullptr);
}

}  // namespace jenga::cuda
