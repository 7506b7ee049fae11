// The device and stream of an operator's tensors, for the time of one launch, and the text of a failed one.
// USE_CUDA opens the stream shims of torch's stable ABI; a target of this folder defines it.
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include "csrc/ops/checks.h"

namespace jenga::ops {

class LaunchScope {
 public:
  explicit LaunchScope(const Tensor& t) : guard_(t.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

// argument: the tensor that a kernel is chosen by.
inline void check_launch(const char* op, cudaError_t error, const char* argument = "q") {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();  // a launch error must not surface in the next operator
  JENGA_REQUIRE(error != cudaErrorNotSupported, op, ": ", argument,
                " must be something that this GPU has a kernel for (compute capability 8.0 or newer), got none; use "
                "the torch backend");
  fail(op, ": the CUDA launch must succeed, got ", cudaGetErrorName(error), ": ", cudaGetErrorString(error));
}

}  // namespace jenga::ops
