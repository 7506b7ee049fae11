// Runs the GoogleTests of a CUDA executable. Without a GPU those that need none still run, and success is reported as
// 77 (ctest: skipped).
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices > 0) cudaFree(nullptr);  // a current context, which our driver calls need
  const int result = RUN_ALL_TESTS();
  if (error == cudaSuccess && devices > 0) return result;
  std::printf("skipped: no CUDA device (%s)\n", cudaGetErrorString(error));
  return result == 0 ? 77 : result;
}
