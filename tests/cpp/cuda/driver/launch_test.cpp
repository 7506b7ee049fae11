// What every operator asks of the driver: kernels, grids, thread blocks, shared memory and arguments. The figures are
// those that CUDA's runtime was given for the same calls.
#include "kernels/cuda/launch.h"

#include <map>

#include "kernels/cuda/driver/device.h"
#include "tests/cpp/cuda/driver/launches.h"
#include "tests/cpp/cuda/driver/values.h"

namespace jenga::testing {
namespace {

const CUstream kStream = static_cast<CUstream>(address(30));

TEST_F(Launch, PrepareBlocksByChannelsAndType) {
  const std::map<int64_t, std::string> lanes{{8, "2"},   {16, "2"},   {24, "4"},  {64, "8"},
                                             {96, "16"}, {128, "16"}, {256, "32"}};
  for (const auto& [head_dim, number] : lanes) {
    for (DataType dtype : {kBrain, kHalf}) {
      launched.clear();
      const PrepareBlocksParams params = prepare_case(dtype, head_dim);
      ASSERT_EQ(cuda::prepare_blocks(params, nullptr, kStream), CUDA_SUCCESS);
      const std::string type = dtype == kBrain ? "_bf16" : "_fp16";
      // 2 x 3 heads, 3 operands, 2 tiles of context and 40 of video
      ASSERT_EQ(shapes(), Shapes{"jenga_prepare_blocks_" + number + type + " 756 256 0"});
      const auto args = launched[0].as<cuda::PrepareArguments>();
      EXPECT_EQ(values_of(args.params), values_of(params));
      EXPECT_EQ(args.context_tiles, 2);
      EXPECT_EQ(args.tiles, 42);
      EXPECT_EQ(args.operands, 3);
      EXPECT_EQ(cuda::prepare_blocks_workspace(params), 0);
      EXPECT_EQ(launched[0].stream, kStream);
    }
  }
}

TEST_F(Launch, PrepareBlocksWithInt8KeysFindsTheirCentersFirst) {
  for (const auto& [head_dim, number] : std::map<int64_t, std::string>{{16, "2"}, {64, "8"}, {128, "16"}}) {
    launched.clear();
    PrepareBlocksParams params = prepare_case(kHalf, head_dim);
    params.k_scale = static_cast<float*>(address(22));
    params.k_tail_scale = static_cast<float*>(address(23));
    params.k_center = static_cast<float*>(address(24));
    EXPECT_EQ(cuda::prepare_blocks_workspace(params), sizeof(float) * 6 * 79 * head_dim);  // tail cells of 5000 tokens
    ASSERT_EQ(cuda::prepare_blocks(params, address(27), kStream), CUDA_SUCCESS);
    const std::string grid = std::to_string(2 * 3 * 3 * (2 + 40));
    const std::string parts = std::to_string(2 * 3 * head_dim / 16);
    EXPECT_EQ(shapes(), (Shapes{"jenga_sample_centers_fp16 " + parts + " 512 0",
                                "jenga_prepare_int8_blocks_" + number + "_fp16 " + grid + " 256 0",
                                "jenga_quantise_tail 12 256 0"}));
    EXPECT_EQ(launched[1].as<cuda::PrepareArguments>().tail_means, address(27));
    const auto tail = launched[2].as<cuda::QuantiseTailArguments>();
    EXPECT_EQ(tail.means, address(27));
    EXPECT_EQ(tail.codes, params.k_tail);
    EXPECT_EQ(tail.scales, params.k_tail_scale);
    EXPECT_EQ(tail.cells, 79);
    EXPECT_EQ(tail.head_dim, head_dim);
  }
  PrepareBlocksParams params = prepare_case(kHalf, 256);
  params.k_scale = static_cast<float*>(address(22));
  EXPECT_EQ(cuda::prepare_blocks(params, nullptr, kStream), CUDA_ERROR_NOT_SUPPORTED);
}

TEST_F(Launch, PrepareBlocksWithFloat8ValuesLooksOnceMoreAtThoseFarBeyondTheSamples) {
  PrepareBlocksParams params = prepare_case(kBrain, 128);
  params.k_scale = static_cast<float*>(address(22));
  params.k_tail_scale = static_cast<float*>(address(23));
  params.k_center = static_cast<float*>(address(24));
  params.v_scale = static_cast<float*>(address(25));
  params.v_center = static_cast<float*>(address(26));
  ASSERT_EQ(cuda::prepare_blocks(params, address(27), kStream), CUDA_SUCCESS);
  const std::string grid = std::to_string(2 * 3 * 3 * (2 + 40));
  // of keys and values 8 parts a head; tail cells of 2 x 3 heads in 2 blocks of 64 x 128 bytes; 5200 rows, 512 a thread
  // block
  const std::string cells = std::to_string(6 * 2 * 64 * 128 / 4);
  EXPECT_EQ(shapes(), (Shapes{"jenga_sample_centers_bf16 96 512 0", "memset " + cells + " 0 0",
                              "jenga_prepare_fp8_blocks_16_bf16 " + grid + " 256 0", "jenga_quantise_tail 12 256 0",
                              "jenga_scale_values_bf16 66 256 0", "jenga_prepare_values_again_bf16 192 256 0"}));
  const int64_t means = int64_t{sizeof(float)} * 6 * 79 * 128;  // and a word of each head
  EXPECT_EQ(cuda::prepare_blocks_workspace(params), means + 6 * sizeof(int32_t));
  for (const int launch : {0, 2, 4, 5}) {
    const auto args = launched[launch].as<cuda::PrepareArguments>();
    EXPECT_EQ(args.is_beyond, static_cast<void*>(static_cast<char*>(address(27)) + means));
  }
  for (const int64_t head_dim : {64, 96}) {
    params.head_dim = head_dim;
    EXPECT_EQ(cuda::prepare_blocks(params, nullptr, kStream), CUDA_ERROR_NOT_SUPPORTED);
  }
}

TEST_F(Launch, PrepareBlocksReadsNoQueriesWhereNoMeansAreWanted) {
  ASSERT_EQ(cuda::prepare_blocks(prepare_case(kBrain, 64, false), nullptr, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(shapes(), Shapes{"jenga_prepare_blocks_8_bf16 504 256 0"});
  EXPECT_EQ(launched[0].as<cuda::PrepareArguments>().operands, 2);
}

TEST_F(Launch, NothingToDoLaunchesNothing) {
  Shape none;
  none.batch = 0;
  EXPECT_EQ(cuda::prepare_blocks(prepare_case(kBrain, 64, true, none), nullptr, nullptr), CUDA_SUCCESS);
  EXPECT_EQ(cuda::block_sparse_attention(attention_case(kBrain, 64, true, none), nullptr, nullptr), CUDA_SUCCESS);
  EXPECT_EQ(cuda::pack_residual(pack_case(kBrain, 64, 8, none), nullptr), CUDA_SUCCESS);
  EXPECT_EQ(cuda::tail_bias(tail_case(kBrain, 64, none), nullptr), CUDA_SUCCESS);
  EXPECT_EQ(cuda::kept_share(kept_case(none), nullptr), CUDA_SUCCESS);
  EXPECT_EQ(shapes(), Shapes{});
}

TEST_F(Launch, WhatIsTooLargeToCountIsRefused) {
  Shape large;
  large.batch = int64_t{1} << 16;
  large.heads = 256;
  large.video = 256 * 128;
  EXPECT_EQ(cuda::prepare_blocks(prepare_case(kBrain, 64, true, large), nullptr, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuda::block_sparse_attention(attention_case(kBrain, 64, true, large), nullptr, nullptr),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuda::pack_residual(pack_case(kBrain, 64, 8, large), nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuda::kept_share(kept_case(large), nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(shapes(), Shapes{});
}

TEST_F(Launch, SelectBlocksAveragesScoresTwiceAndLists) {
  const SelectBlocksParams params = select_case(kBrain, 128);
  void* const workspace = address(20);
  ASSERT_EQ(cuda::select_blocks(params, workspace, kStream), CUDA_SUCCESS);
  ASSERT_EQ(shapes(), (Shapes{"jenga_average_cells_bf16 59 256 0", "jenga_sm80_score_shifts_128_bf16 18 128 49152",
                              "jenga_sm80_score_masses_128_bf16 18 128 49152", "jenga_select_blocks 60 128 1280"}));
  const auto average = launched[0].as<cuda::AverageArguments>();
  EXPECT_EQ(values_of(average.params), values_of(params));
  EXPECT_EQ(average.coarse_means, workspace);
  EXPECT_EQ(average.vectors, 6 * 157 * 16);
  const auto shifts = launched[1].as<cuda::ScoreArguments>(), masses = launched[2].as<cuda::ScoreArguments>();
  EXPECT_EQ(shifts.k_means, workspace);
  EXPECT_EQ(masses.k_means, params.k_means);
  EXPECT_EQ(shifts.shifts, masses.shifts);
  EXPECT_EQ(shifts.num_k_cells, 157);
  EXPECT_EQ(masses.num_k_cells, 625);
  EXPECT_EQ(shifts.tiles_per_head, 3);
  EXPECT_EQ(masses.tiles_per_head, 3);
  const auto lists = launched[3].as<cuda::SelectArguments>();
  EXPECT_EQ(values_of(lists.params), values_of(params));
  EXPECT_EQ(lists.masses, masses.masses);
  EXPECT_EQ(lists.lists, 240);
  EXPECT_EQ(lists.rows, 4);
  EXPECT_EQ(lists.padded, 80);
  for (const Launched& launch : launched) EXPECT_EQ(launch.stream, kStream);
}

TEST_F(Launch, TailBiasTakes256KeyCellsAThreadBlock) {
  const TailBiasParams params = tail_case(kHalf, 72);
  ASSERT_EQ(cuda::tail_bias(params, kStream), CUDA_SUCCESS);
  ASSERT_EQ(shapes(), Shapes{"jenga_tail_bias_fp16 18 128 8192"});
  EXPECT_EQ(launched[0].stream, kStream);
  const auto args = launched[0].as<cuda::TailBiasArguments>();
  EXPECT_EQ(args.params.q_means, params.q_means);
  EXPECT_EQ(args.params.k_means, params.k_means);
  EXPECT_EQ(args.params.tail_bias, params.tail_bias);
  EXPECT_EQ(args.head_dim, 72);
  EXPECT_EQ(args.num_k_cells, 625);
  EXPECT_EQ(args.num_tail_cells, 79);
  EXPECT_EQ(args.num_sampled, 32);
  EXPECT_EQ(args.parts, 8);
  EXPECT_EQ(args.blocks_per_head, 3);
}

TEST_F(Launch, TailBiasRefusesWhatItsLoadsCannotTake) {
  TailBiasParams params = tail_case(kHalf, 72);
  params.k_means = static_cast<const char*>(params.k_means) + 8;
  EXPECT_EQ(cuda::tail_bias(params, kStream), CUDA_ERROR_MISALIGNED_ADDRESS);
  EXPECT_EQ(cuda::tail_bias(tail_case(kHalf, 264), kStream), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(cuda::tail_bias(tail_case(DataType::kFloat32, 64), kStream), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(shapes(), Shapes{});
}

TEST_F(Launch, PackResidualByChannelsAndType) {
  for (int32_t bits : {8, 4}) {
    launched.clear();
    const PackResidualParams params = pack_case(kHalf, 96, bits);
    ASSERT_EQ(cuda::pack_residual(params, kStream), CUDA_SUCCESS);
    ASSERT_EQ(shapes(), Shapes{"jenga_pack_residual_16_fp16 1950 256 0"});
    EXPECT_EQ(values_of(launched[0].as<PackResidualParams>()), values_of(params));
  }
}

TEST_F(Launch, KeptShareIsOneThreadBlock) {
  const KeptShareParams params = kept_case();
  ASSERT_EQ(cuda::kept_share(params, kStream), CUDA_SUCCESS);
  ASSERT_EQ(shapes(), Shapes{"jenga_kept_share 1 1024 0"});
  EXPECT_EQ(launched[0].stream, kStream);
  const auto args = launched[0].as<cuda::KeptShareArguments>();
  EXPECT_EQ(args.kv_block_index, params.kv_block_index);
  EXPECT_EQ(args.kv_block_count, params.kv_block_count);
  EXPECT_EQ(args.kept_share, params.kept_share);
  EXPECT_EQ(args.all_pairs, 2 * 3 * 5000. * 5000.);
  EXPECT_EQ(args.lists, 2 * 3 * 40);
  EXPECT_EQ(args.max_kv, 20);
  EXPECT_EQ(args.num_q_blocks, 40);
  EXPECT_EQ(args.num_kv_blocks, 79);
  EXPECT_EQ(args.kv_block_size, 64);
  EXPECT_EQ(args.lacking_rows, 120);
  EXPECT_EQ(args.lacking_keys, 56);
}

TEST_F(Launch, Sm80AttentionOrdersTilesAndAttends) {
  const BlockSparseAttentionParams params = attention_case(kHalf, 128);
  void* const workspace = address(21);
  ASSERT_EQ(cuda::block_sparse_attention(params, workspace, kStream), CUDA_SUCCESS);
  ASSERT_EQ(shapes(), (Shapes{"jenga_order_tiles 6 128 0", "jenga_sm80_attention_128_fp16 252 128 82500"}));
  const auto order = launched[0].as<cuda::OrderArguments>();
  EXPECT_EQ(order.kv_block_count, params.kv_block_count);
  EXPECT_EQ(order.tile_order, workspace);
  EXPECT_EQ(order.num_q_blocks, 40);
  EXPECT_EQ(order.chunks, 1);
  const auto args = launched[1].as<cuda::sm80::AttentionArguments>();
  EXPECT_EQ(values_of(args.walk.params), values_of(params));
  EXPECT_EQ(args.walk.tile_order, workspace);
  EXPECT_EQ(args.walk.num_tail_cells, 79);
  EXPECT_EQ(args.slots, 3);
  EXPECT_EQ(launched[1].stream, kStream);
}

// The fake driver's map: address, type, swizzle, sizes, strides in bytes, box.
std::vector<uint64_t> words_of(const CUtensorMap& map) {
  std::vector<uint64_t> words(12);
  std::memcpy(words.data(), &map, words.size() * sizeof(uint64_t));
  return words;
}

TEST_F(Launch, Sm90AttentionHasMapsATicketAndOneThreadBlockAProcessor) {
  on(kH100);
  const BlockSparseAttentionParams params = attention_case(kBrain, 128);
  auto* const workspace = static_cast<unsigned char*>(address(21));
  ASSERT_EQ(cuda::block_sparse_attention(params, workspace, kStream), CUDA_SUCCESS);
  ASSERT_EQ(shapes(),
            (Shapes{"jenga_order_tiles 6 128 0", "memset 1 0 0", "jenga_sm90_attention_128_bf16 132 384 202024"}));
  EXPECT_EQ(launched[0].as<cuda::OrderArguments>().tile_order, static_cast<void*>(workspace + 16));
  uint64_t filled[2];
  std::memcpy(filled, launched[1].argument.data(), sizeof(filled));
  EXPECT_EQ(filled[0], reinterpret_cast<uintptr_t>(workspace));
  EXPECT_EQ(filled[1], 0u);
  const auto args = launched[2].as<cuda::sm90::AttentionArguments>();
  EXPECT_EQ(values_of(args.walk.params), values_of(params));
  EXPECT_EQ(args.next_ticket, static_cast<void*>(workspace));
  EXPECT_EQ(args.num_tickets, 6 * (2 + 40));
  const uint64_t row = 128 * 2, rows = 256 + 5000, cells = 79;
  const auto map_of = [&](const void* pointer, uint64_t number) {
    return std::vector<uint64_t>{reinterpret_cast<uintptr_t>(pointer),
                                 CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                                 CU_TENSOR_MAP_SWIZZLE_128B,
                                 128,
                                 number,
                                 3,
                                 2,
                                 row,
                                 number * row,
                                 3 * number * row,
                                 64,
                                 64};
  };
  EXPECT_EQ(words_of(args.k_map), map_of(params.k_carved.data, rows));
  EXPECT_EQ(words_of(args.v_map), map_of(params.v_carved.data, rows));
  EXPECT_EQ(words_of(args.k_tail_map), map_of(params.k_tail.data, cells));
  EXPECT_EQ(words_of(args.v_tail_map), map_of(params.v_tail.data, cells));
}

TEST_F(Launch, AThreadWithoutAContextGetsTheDevices) {
  fake_set_current(false);
  const PrepareBlocksParams params = prepare_case(kBrain, 64);
  EXPECT_EQ(cuda::prepare_blocks(params, nullptr, nullptr), CUDA_ERROR_INVALID_CONTEXT);
  {
    const cuda::DeviceScope scope(0);
    EXPECT_EQ(fake_pushed(), 1);
    EXPECT_EQ(cuda::prepare_blocks(params, nullptr, nullptr), CUDA_SUCCESS);
  }
  EXPECT_EQ(fake_pushed(), 0);
  EXPECT_EQ(fake_retained(), 0);
  fake_set_current(true);
  const cuda::DeviceScope scope(0);
  EXPECT_EQ(fake_pushed(), 0);
}

TEST_F(Launch, CodeLoadsOnceAndAgainAfterAFailure) {
  alignas(16) static const unsigned char bytes[] = {0x50, 0xED, 0x55, 0xBA};
  cuda::Code code(bytes);
  cuda::Kernel<int64_t> first(code, "first"), second(code, "second");
  const int loads = fake_loads();
  fake_fail_next("cuLibraryLoadData", CUDA_ERROR_INVALID_IMAGE);
  EXPECT_EQ(first.launch({1, 32}, nullptr, 0), CUDA_ERROR_INVALID_IMAGE);
  EXPECT_EQ(cuda::error_text(CUDA_ERROR_INVALID_IMAGE), "CUDA_ERROR_INVALID_IMAGE: said the fake driver");
  fake_fail_next("cuLibraryGetKernel", CUDA_ERROR_NOT_FOUND);
  EXPECT_EQ(first.launch({1, 32}, nullptr, 0), CUDA_ERROR_NOT_FOUND);
  fake_fail_next("cuLaunchKernelEx", CUDA_ERROR_LAUNCH_FAILED);
  EXPECT_EQ(first.launch({1, 32}, nullptr, 0), CUDA_ERROR_LAUNCH_FAILED);
  fake_set_listener(nullptr);
  EXPECT_EQ(first.launch({1, 32}, nullptr, 0), CUDA_SUCCESS);
  EXPECT_EQ(second.launch({1, 32}, nullptr, 0), CUDA_SUCCESS);
  EXPECT_EQ(fake_loads(), loads + 1);
  // The driver is asked for more than 48 KB, and refuses more than the GPU has.
  EXPECT_EQ(first.launch({1, 32, kA100.shared_per_block}, nullptr, 0), CUDA_SUCCESS);
  EXPECT_EQ(first.launch({1, 32, kA100.shared_per_block + 1}, nullptr, 0), CUDA_ERROR_INVALID_VALUE);
}

}  // namespace
}  // namespace jenga::testing
