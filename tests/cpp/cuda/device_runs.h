// A kernel with a case's memory on the device, twice.
#pragma once

#include <memory>

#include "tests/cpp/cuda/device_array.h"
#include "tests/cpp/cuda/outputs.h"

namespace jenga::testing {

// Copies of vectors on the device, which live as long as it does: the place of HostCase::params.
class DeviceMemory {
 public:
  template <class Value>
  const Value* operator()(const std::vector<Value>& values) {
    const auto array = std::make_shared<DeviceArray<Value>>(values);
    arrays_.push_back(array);
    return array->get();
  }

 private:
  std::vector<std::shared_ptr<void>> arrays_;
};

// Every row must be written, and twice the same bits. launch(params, workspace) -> CUresult.
template <class Launch>
void run_twice(BlockSparseAttentionParams params, size_t workspace_bytes, Launch launch, Outputs& found) {
  const DeviceArray<uint8_t> workspace(workspace_bytes);
  Outputs runs[2];
  for (Outputs& run : runs) {
    const DeviceArray<uint16_t> out(num_rows(params) * params.head_dim);
    const DeviceArray<float> lse(num_rows(params));
    params.out = {out.get(), params.q.strides, params.q.dtype};
    params.lse = lse.get();
    ASSERT_EQ(launch(params, workspace.get()), CUDA_SUCCESS);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    run = {out.download(), lse.download()};
  }
  EXPECT_EQ(runs[0].out, runs[1].out);
  EXPECT_EQ(runs[0].lse, runs[1].lse);
  found = runs[0];
}

}  // namespace jenga::testing
