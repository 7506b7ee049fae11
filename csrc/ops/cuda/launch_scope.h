// The device and stream of an operator's tensors, for the time of one launch, and the text of a failed one.
// USE_CUDA opens the stream shims of torch's stable ABI; a target of this folder defines it.
#pragma once

#include <cuda.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include "csrc/ops/checks.h"
#include "kernels/cuda/driver/device.h"
#include "kernels/cuda/driver/driver.h"

namespace jenga::ops {

class LaunchScope {
 public:
  explicit LaunchScope(const Tensor& t) : guard_(t.get_device_index()), device_(t.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
    stream_ = static_cast<CUstream>(stream);
  }
  CUstream stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cuda::DeviceScope device_;  // a thread that has only allocated may have no context yet
  CUstream stream_ = nullptr;
};

// argument: the tensor that a kernel is chosen by.
inline void check_launch(const char* op, CUresult error, const char* argument = "q") {
  if (error == CUDA_SUCCESS) return;
  JENGA_REQUIRE(error != CUDA_ERROR_NOT_SUPPORTED, op, ": ", argument,
                " must be something that this GPU has a kernel for (compute capability 8.0 or newer), got none; use "
                "the torch backend");
  fail(op, ": the CUDA launch must succeed, got ", cuda::error_text(error));
}

}  // namespace jenga::ops
