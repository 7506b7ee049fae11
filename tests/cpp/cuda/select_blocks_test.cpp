// select_blocks against the reference, list by list.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "kernels/cuda/launch.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/attention_case.h"
#include "tests/cpp/cuda/device_array.h"
#include "tests/cpp/cuda/select_case.h"

namespace jenga::testing {
namespace {

struct SelectCase {
  const char* name;
  int64_t num_video, head_dim, q_cells, k_cells, min_blocks;
  float top_p = 0.f;
  bool adjacency = false;
  bool tied = false;  // all keys alike: ties go by index
  int64_t kv_block_size = 64;
  DataType dtype = DataType::kBFloat16;
  bool whole = false;  // all means are whole numbers: logits are equal or far apart, so that rounding decides nothing
};

class SelectBlocks : public ::testing::TestWithParam<SelectCase> {};

TEST_P(SelectBlocks, MatchesTheReference) {
  JENGA_SKIP_WITHOUT_DEVICE();
  const SelectCase& shape = GetParam();
  SelectBlocksParams params = select_params(shape, 2, 2);
  params.min_blocks = shape.min_blocks;
  params.top_p = shape.top_p;
  const int64_t heads = params.batch * params.heads, num_kv = params.num_kv_blocks();
  params.max_kv = shape.top_p > 0 || shape.adjacency ? num_kv : std::min(shape.min_blocks, num_kv);

  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  const auto draw = [&](int64_t cells, bool ones) {
    std::vector<uint16_t> values(heads * cells * shape.head_dim);
    for (uint16_t& value : values) {
      const float drawn = ones ? 1.f : normal(random);
      value = encode(shape.dtype, shape.whole ? std::round(drawn) : drawn);
    }
    return values;
  };
  const std::vector<uint16_t> q_means = draw(params.num_q_cells(), false);
  const std::vector<uint16_t> k_means = draw(params.num_k_cells(), shape.tied);
  std::vector<uint8_t> adjacency(shape.adjacency ? params.num_q_blocks() * num_kv : 0);
  for (uint8_t& bit : adjacency) bit = random() % 8 == 0;
  std::vector<int32_t> count(heads * params.num_q_blocks()), index(count.size() * params.max_kv);
  SelectBlocksParams host = params;
  host.q_means = q_means.data();
  host.k_means = k_means.data();
  host.adjacency = shape.adjacency ? adjacency.data() : nullptr;
  host.kv_block_index = index.data();
  host.kv_block_count = count.data();
  reference::select_blocks(host);

  const DeviceArray device_q(q_means), device_k(k_means);
  const DeviceArray device_adjacency(adjacency);
  const DeviceArray<int32_t> device_index(index.size()), device_count(count.size());
  const DeviceArray<uint8_t> workspace(cuda::select_blocks_workspace(params));
  params.q_means = device_q.get();
  params.k_means = device_k.get();
  params.adjacency = device_adjacency.get();
  params.kv_block_index = device_index.get();
  params.kv_block_count = device_count.get();
  ASSERT_EQ(cuda::select_blocks(params, workspace.get(), nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(device_count.download(), count);
  EXPECT_EQ(device_index.download(), index);
}

TEST(SelectBlocksLimit, IsWhatFits) {
  JENGA_SKIP_WITHOUT_DEVICE();
  int64_t most = 0;
  ASSERT_EQ(cuda::most_selectable_blocks(&most), CUDA_SUCCESS);
  ASSERT_GT(most, 20000);
  SelectBlocksParams params{};
  params.dtype = DataType::kBFloat16;
  params.batch = params.heads = params.q_cells = params.k_cells = params.min_blocks = params.max_kv = 1;
  params.head_dim = 8;
  params.softmax_scale = 1.f;
  params.q_block_size = params.kv_block_size = 64;
  const DeviceArray means(std::vector<uint16_t>((most + 1) * 8, 0));
  params.q_means = params.k_means = means.get();
  params.num_video = (most + 1) * 64;
  EXPECT_EQ(cuda::select_blocks(params, nullptr, nullptr), CUDA_ERROR_NOT_SUPPORTED);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, SelectBlocks,
    ::testing::Values(SelectCase{"Fixed", 5000, 128, 8, 8, 13}, SelectCase{"Mass", 5000, 128, 8, 8, 3, 0.5f},
                      SelectCase{"MassAndAdjacency", 2600, 64, 4, 4, 5, 0.3f, true},
                      SelectCase{"Adjacency", 900, 64, 8, 8, 4, 0.f, true}, SelectCase{"Everything", 640, 64, 8, 8, 90},
                      SelectCase{"WholeMass", 640, 64, 8, 8, 1, 1.f}, SelectCase{"OneToken", 1, 8, 8, 8, 1},
                      SelectCase{"Ties", 2560, 8, 8, 8, 6, 0.f, false, true},
                      SelectCase{"TiesByMass", 2560, 8, 4, 8, 1, 0.33f, false, true},
                      SelectCase{"OneCell", 5000, 128, 1, 1, 13}, SelectCase{"OneCellByMass", 2177, 40, 1, 1, 5, 0.4f},
                      SelectCase{"Cells2x4", 2177, 40, 2, 4, 5, 0.4f}, SelectCase{"Cells1x8", 2177, 96, 1, 8, 5},
                      SelectCase{"Cells8x1", 2177, 128, 8, 1, 5}, SelectCase{"Cells4x2", 2177, 256, 4, 2, 5},
                      SelectCase{"Cells8x8HeadDim192", 1300, 192, 8, 8, 5},
                      SelectCase{"Cells2x8HeadDim256", 1300, 256, 2, 8, 5},
                      SelectCase{"Blocks128", 3001, 128, 8, 8, 4, 0.f, false, false, 128},
                      SelectCase{"Fp16", 1501, 128, 4, 4, 4, 0.2f, false, false, 64, DataType::kFloat16},
                      SelectCase{"LongRows", 100000, 8, 1, 1, 1000, 0.f, false, false, 64, DataType::kBFloat16, true}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::testing
