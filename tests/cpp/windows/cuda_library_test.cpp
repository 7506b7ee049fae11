// The Windows CUDA library where there is no driver and torch has no CUDA: it loads, and its operators are registered.
#include <gtest/gtest.h>
#include <torch/csrc/stable/library.h>
#include <windows.h>

#include <string>

namespace jenga::test {
namespace {

void never_called(StableIValue*, uint64_t, uint64_t) {}

// What torch says when a kernel for GPUs is registered for this operator, once more or for the first time.
std::string said_to_another_kernel(const char* op) {
  testing::internal::CaptureStderr();
  TorchLibraryHandle library = nullptr;
  EXPECT_EQ(aoti_torch_library_init_impl("jenga", "CUDA", __FILE__, __LINE__, &library), 0);
  EXPECT_EQ(aoti_torch_library_impl(library, op, never_called), 0);
  EXPECT_EQ(aoti_torch_delete_library_object(library), 0);
  return testing::internal::GetCapturedStderr();
}

TEST(WindowsCudaLibrary, LoadsWithoutADriverAndRegistersItsOperators) {
  ASSERT_NE(LoadLibraryA("libjenga_cpu.dll"), nullptr) << "error " << GetLastError();
  ASSERT_NE(LoadLibraryA("libjenga_cuda.dll"), nullptr) << "error " << GetLastError();
  constexpr const char* kAgain = "Overriding a previously registered kernel";
  const std::string first = said_to_another_kernel("curve_order");  // it has none for GPUs
  EXPECT_EQ(first.find(kAgain), std::string::npos) << first;
  const std::string second = said_to_another_kernel("block_sparse_attention");
  EXPECT_NE(second.find(kAgain), std::string::npos) << second;
}

}  // namespace
}  // namespace jenga::test
