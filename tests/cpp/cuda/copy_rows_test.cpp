// copy_rows on a GPU, bit by bit, and what it refuses.
#include <gtest/gtest.h>

#include <memory>

#include "kernels/cuda/launch.h"
#include "tests/cpp/cuda/copy_rows_case.h"
#include "tests/cpp/cuda/device_array.h"

namespace jenga::testing {
namespace {

class CopyRows : public ::testing::TestWithParam<CopyRowsCase> {};

TEST_P(CopyRows, WritesTheRowsAndNothingElse) {
  JENGA_SKIP_WITHOUT_DEVICE();
  const CopyRowsCase& c = GetParam();
  const std::vector<Words> sources = c.drawn_sources(), wanted = c.wanted(sources);
  std::vector<std::unique_ptr<DeviceArray<uint64_t>>> from, to;
  std::vector<void*> from_pointers, to_pointers;
  for (const Words& words : sources) from.push_back(std::make_unique<DeviceArray<uint64_t>>(words));
  for (const Words& words : c.unwritten_targets()) to.push_back(std::make_unique<DeviceArray<uint64_t>>(words));
  for (const auto& array : from) from_pointers.push_back(array->get());
  for (const auto& array : to) to_pointers.push_back(array->get());
  ASSERT_EQ(cuda::copy_rows(c.params(from_pointers, to_pointers), nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  for (size_t i = 0; i < to.size(); ++i) EXPECT_EQ(to[i]->download(), wanted[i]) << "pair " << i;
}

INSTANTIATE_TEST_SUITE_P(Cases, CopyRows, ::testing::ValuesIn(kCopyRowsCases),
                         [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace jenga::testing
