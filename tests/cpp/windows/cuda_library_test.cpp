// The Windows CUDA library where there is no driver and torch has no CUDA: it loads, and its operators are known.
#include <gtest/gtest.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <windows.h>

#include <string>

namespace jenga::test {
namespace {

// A tensor that says it is on a GPU; nobody reads it.
AOTITorchError on_gpu(void* memory, AtenTensorHandle* tensor) {
  const int64_t sizes[] = {1, 1, 4, 8}, strides[] = {32, 32, 8, 1};
  return aoti_torch_create_tensor_from_blob(memory, 4, sizes, strides, 0, aoti_torch_dtype_float16(),
                                            aoti_torch_device_type_cuda(), 0, tensor);
}

TEST(WindowsCudaLibrary, LoadsWithoutADriver) {
  ASSERT_NE(LoadLibraryA("libjenga_cpu.dll"), nullptr) << "error " << GetLastError();
  ASSERT_NE(LoadLibraryA("libjenga_cuda.dll"), nullptr) << "error " << GetLastError();
}

// torch refuses a GPU that it cannot see, and not an operator that it does not know for GPUs.
TEST(WindowsCudaLibrary, ItsOperatorsAreRegistered) {
  ASSERT_NE(LoadLibraryA("libjenga_cpu.dll"), nullptr);
  ASSERT_NE(LoadLibraryA("libjenga_cuda.dll"), nullptr);
  alignas(64) static char memory[64];
  AtenTensorHandle dense = nullptr, carved = nullptr;
  if (on_gpu(memory, &dense) != 0 || on_gpu(memory, &carved) != 0) GTEST_SKIP() << "torch makes no such tensor here";
  StableIValue stack[3] = {torch::stable::detail::from(dense), torch::stable::detail::from(carved),
                           torch::stable::detail::from(int64_t{8})};
  testing::internal::CaptureStderr();
  EXPECT_NE(torch_call_dispatcher("jenga::pack_residual", "", stack, TORCH_ABI_VERSION), 0);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(said.find("Could not run"), std::string::npos) << said;
}

}  // namespace
}  // namespace jenga::test
