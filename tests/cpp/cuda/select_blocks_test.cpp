// select_blocks against the reference, list by list.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "kernels/cuda/launch.h"
#include "kernels/reference/reference.h"
#include "tests/cpp/cuda/device_array.h"

namespace jenga::testing {
namespace {

struct SelectCase {
  const char* name;
  int64_t num_q, num_kv, head_dim, min_blocks;
  float top_p;
  bool adjacency = false;
  bool tied = false;  // all keys alike: ties go by index
};

class SelectBlocks : public ::testing::TestWithParam<SelectCase> {};

TEST_P(SelectBlocks, MatchesTheReference) {
  JENGA_SKIP_WITHOUT_DEVICE();
  const SelectCase& shape = GetParam();
  constexpr int64_t kBatch = 2, kHeads = 2;
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> q_pool(kBatch * kHeads * shape.num_q * shape.head_dim);
  std::vector<float> k_pool(kBatch * kHeads * shape.num_kv * shape.head_dim, 1.f);
  for (float& value : q_pool) value = normal(random);
  if (!shape.tied) {
    for (float& value : k_pool) value = normal(random);
  }
  std::vector<uint8_t> adjacency(shape.adjacency ? shape.num_q * shape.num_kv : 0);
  for (uint8_t& bit : adjacency) bit = random() % 8 == 0;

  SelectBlocksParams params{};
  params.batch = kBatch;
  params.heads = kHeads;
  params.head_dim = shape.head_dim;
  params.num_q_blocks = shape.num_q;
  params.num_kv_blocks = shape.num_kv;
  params.min_blocks = shape.min_blocks;
  params.top_p = shape.top_p;
  params.max_kv = shape.top_p > 0 || shape.adjacency ? shape.num_kv : std::min(shape.min_blocks, shape.num_kv);
  params.softmax_scale = 1.5f / std::sqrt(static_cast<float>(shape.head_dim));
  std::vector<int32_t> count(kBatch * kHeads * shape.num_q), index(count.size() * params.max_kv);
  SelectBlocksParams host = params;
  host.q_pool = q_pool.data();
  host.k_pool = k_pool.data();
  host.adjacency = shape.adjacency ? adjacency.data() : nullptr;
  host.kv_block_index = index.data();
  host.kv_block_count = count.data();
  reference::select_blocks(host);

  const DeviceArray device_q(q_pool), device_k(k_pool);
  const DeviceArray device_adjacency(adjacency);
  const DeviceArray<int32_t> device_index(index.size()), device_count(count.size());
  params.q_pool = device_q.get();
  params.k_pool = device_k.get();
  params.adjacency = device_adjacency.get();
  params.kv_block_index = device_index.get();
  params.kv_block_count = device_count.get();
  ASSERT_EQ(cuda::select_blocks(params, nullptr), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(device_count.download(), count);
  EXPECT_EQ(device_index.download(), index);
}

TEST(SelectBlocksLimit, IsWhatFits) {
  JENGA_SKIP_WITHOUT_DEVICE();
  SelectBlocksParams params{};
  params.batch = params.heads = params.num_q_blocks = params.min_blocks = params.max_kv = 1;
  params.head_dim = 8;
  params.softmax_scale = 1.f;
  ASSERT_EQ(cuda::most_selectable_blocks(params.head_dim, &params.num_kv_blocks), cudaSuccess);
  ASSERT_GT(params.num_kv_blocks, 20000);
  const DeviceArray device_q(std::vector<float>(8, 1.f));
  const DeviceArray device_k(std::vector<float>((params.num_kv_blocks + 1) * 8, 1.f));
  const DeviceArray<int32_t> device_index(1), device_count(1);
  params.q_pool = device_q.get();
  params.k_pool = device_k.get();
  params.kv_block_index = device_index.get();
  params.kv_block_count = device_count.get();
  EXPECT_EQ(cuda::select_blocks(params, nullptr), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  ++params.num_kv_blocks;
  EXPECT_EQ(cuda::select_blocks(params, nullptr), cudaErrorNotSupported);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, SelectBlocks,
    ::testing::Values(SelectCase{"Fixed", 40, 130, 128, 13, 0.f}, SelectCase{"Mass", 40, 130, 128, 3, 0.5f},
                      SelectCase{"MassAndAdjacency", 21, 130, 64, 5, 0.3f, true},
                      SelectCase{"Adjacency", 7, 61, 64, 4, 0.f, true}, SelectCase{"Everything", 5, 70, 64, 90, 0.f},
                      SelectCase{"WholeMass", 5, 70, 64, 1, 1.f}, SelectCase{"OneBlock", 1, 1, 8, 1, 0.f},
                      SelectCase{"Ties", 9, 40, 8, 6, 0.f, false, true},
                      SelectCase{"TiesByMass", 9, 40, 8, 1, 0.33f, false, true},
                      SelectCase{"HeadDim40", 17, 33, 40, 5, 0.4f}, SelectCase{"HeadDim256", 3, 1025, 256, 200, 0.2f},
                      SelectCase{"LongRows", 3, 16384, 64, 1000, 0.f}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::testing
