// Every generation of GPUs gets its kernels, and as much shared memory as it has. The figures are those that CUDA's
// runtime was given for the same calls.
#include "kernels/cuda/launch.h"
#include "tests/cpp/cuda/driver/launches.h"

namespace jenga::testing {
namespace {

struct Case {
  FakeDevice device;
  int64_t head_dim;
  Shapes shapes;
};

class AttentionOn : public Launch, public ::testing::WithParamInterface<Case> {};

TEST_P(AttentionOn, TakesTheKernelAndTheSharedMemoryOfItsGeneration) {
  on(GetParam().device);
  const auto params = attention_case(kBrain, GetParam().head_dim);
  ASSERT_EQ(cuda::block_sparse_attention(params, address(21), nullptr), CUDA_SUCCESS);
  EXPECT_EQ(shapes(), GetParam().shapes);
}

INSTANTIATE_TEST_SUITE_P(
    Generations, AttentionOn,
    ::testing::Values(
        Case{kA100, 8, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_32_bf16 252 128 21060"}},
        Case{kA100, 64, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_64_bf16 252 128 41540"}},
        Case{kA100, 96, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_96_bf16 252 128 62020"}},
        Case{kA100, 128, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_128_bf16 252 128 82500"}},
        Case{kA100, 192, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_192_bf16 504 128 74308"}},
        Case{kA100, 256, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_256_bf16 504 128 131652"}},
        Case{kRtx4090, 96, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_96_bf16 252 128 49732"}},
        Case{kRtx4090, 128, {"jenga_order_tiles 6 128 0", "jenga_sm86_attention_128_bf16 252 128 49476"}},
        Case{kRtx4090, 192, {"jenga_order_tiles 6 128 0", "jenga_sm86_attention_192_bf16 504 128 49476"}},
        Case{kRtx4090, 256, {"jenga_order_tiles 6 128 0", "jenga_sm86_attention_256_bf16 504 128 49348"}},
        Case{kRtx3090, 128, {"jenga_order_tiles 6 128 0", "jenga_sm86_attention_128_bf16 252 128 49476"}},
        Case{kH100, 40, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_64_bf16 252 128 41540"}},
        Case{kH100, 64, {"jenga_order_tiles 6 128 0", "memset 1 0 0", "jenga_sm90_attention_64_bf16 132 384 152920"}},
        Case{kH100, 96, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_96_bf16 252 128 62020"}},
        Case{kH100, 128, {"jenga_order_tiles 6 128 0", "memset 1 0 0", "jenga_sm90_attention_128_bf16 132 384 202024"}},
        Case{kH100, 256, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_256_bf16 504 128 98884"}},
        Case{kRtx5090, 64, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_64_bf16 252 128 41540"}},
        Case{kRtx5090, 128, {"jenga_order_tiles 6 128 0", "jenga_sm86_attention_128_bf16 252 128 49476"}},
        Case{kB200, 128, {"jenga_order_tiles 6 128 0", "jenga_sm80_attention_128_bf16 252 128 82500"}}));

class Int8AttentionOn : public Launch, public ::testing::WithParamInterface<Case> {};

TEST_P(Int8AttentionOn, TakesTheKernelAndTheSharedMemoryOfItsGeneration) {
  on(GetParam().device);
  const auto params = int8_attention_case(kBrain, GetParam().head_dim);
  ASSERT_EQ(cuda::block_sparse_attention(params, address(21), nullptr), CUDA_SUCCESS);
  EXPECT_EQ(shapes(), GetParam().shapes);
}

// Two thread blocks a processor everywhere: with four slots where those fit, on cards of 99 KB with two.
INSTANTIATE_TEST_SUITE_P(
    Generations, Int8AttentionOn,
    ::testing::Values(
        Case{kA100, 16, {"jenga_order_tiles 6 128 0", "jenga_sm80_int8_attention_64_bf16 252 128 34468"}},
        Case{kA100, 128, {"jenga_order_tiles 6 128 0", "jenga_sm80_int8_attention_128_bf16 252 128 67236"}},
        Case{kRtx4090, 64, {"jenga_order_tiles 6 128 0", "jenga_sm80_int8_attention_64_bf16 252 128 34468"}},
        Case{kRtx4090, 96, {"jenga_order_tiles 6 128 0", "jenga_sm80_int8_attention_128_bf16 252 128 42660"}},
        Case{kRtx4090, 128, {"jenga_order_tiles 6 128 0", "jenga_sm80_int8_attention_128_bf16 252 128 42660"}},
        Case{kH100, 128, {"jenga_order_tiles 6 128 0", "jenga_sm80_int8_attention_128_bf16 252 128 67236"}},
        Case{kRtx5090, 128, {"jenga_order_tiles 6 128 0", "jenga_sm80_int8_attention_128_bf16 252 128 42660"}}));

TEST_F(Launch, Int8KeysWithoutTheirScalesOrOfAnotherHeadDimAreRefused) {
  const auto refuses = [](int64_t head_dim, auto change) {
    BlockSparseAttentionParams params = int8_attention_case(kHalf, head_dim);
    change(params);
    return cuda::block_sparse_attention(params, address(21), nullptr) == CUDA_ERROR_NOT_SUPPORTED;
  };
  EXPECT_FALSE(refuses(128, [](auto&) {}));
  EXPECT_TRUE(refuses(40, [](auto&) {}));
  EXPECT_TRUE(refuses(256, [](auto&) {}));
  EXPECT_TRUE(refuses(128, [](auto& p) { p.k_carved.scale = nullptr; }));
  EXPECT_TRUE(refuses(128, [](auto& p) { p.k_tail.scale = nullptr; }));
  EXPECT_TRUE(refuses(128, [](auto& p) { p.k_center = nullptr; }));
  EXPECT_TRUE(refuses(128, [](auto& p) { p.k_carved.strides.token = 136; }));
}

class Float8AttentionOn : public Launch, public ::testing::WithParamInterface<Case> {};

TEST_P(Float8AttentionOn, TakesTheKernelAndTheSharedMemoryOfItsGeneration) {
  on(GetParam().device);
  const auto params = fp8_attention_case(kBrain, GetParam().head_dim);
  ASSERT_EQ(cuda::block_sparse_attention(params, address(21), nullptr), CUDA_SUCCESS);
  EXPECT_EQ(shapes(), GetParam().shapes);
}

INSTANTIATE_TEST_SUITE_P(
    Generations, Float8AttentionOn,
    ::testing::Values(
        Case{kRtx4090, 128, {"jenga_order_tiles 6 128 0", "jenga_sm89_fp8_attention_128_bf16 504 128 33956"}},
        Case{kH100,
             128,
             {"jenga_order_tiles 6 128 0", "memset 1 0 0", "jenga_sm90_fp8_attention_128_bf16 132 384 216064"}},
        Case{kRtx5090, 128, {"jenga_order_tiles 6 128 0", "jenga_sm89_fp8_attention_128_bf16 504 128 33956"}}));

TEST_F(Launch, Float8ValuesHaveNoKernelWhereMmaSyncHasNone) {
  for (const FakeDevice& other : {kA100, kRtx3090, kB200}) {
    on(other);
    EXPECT_EQ(cuda::block_sparse_attention(fp8_attention_case(kBrain, 128), address(21), nullptr),
              CUDA_ERROR_NOT_SUPPORTED);
  }
}

TEST_F(Launch, Float8ValuesWithoutTheirScalesOrOfAnotherHeadDimAreRefused) {
  const auto refuses = [](int64_t head_dim, auto change) {
    BlockSparseAttentionParams params = fp8_attention_case(kHalf, head_dim);
    change(params);
    return cuda::block_sparse_attention(params, address(21), nullptr) == CUDA_ERROR_NOT_SUPPORTED;
  };
  for (const FakeDevice& device : {kH100, kRtx4090}) {
    on(device);
    EXPECT_FALSE(refuses(128, [](auto&) {}));
    EXPECT_TRUE(refuses(64, [](auto&) {}));
    EXPECT_TRUE(refuses(128, [](auto& p) { p.v_carved.scale = nullptr; }));
    EXPECT_TRUE(refuses(128, [](auto& p) { p.v_center = nullptr; }));
    EXPECT_TRUE(refuses(128, [](auto& p) { p.k_carved.scale = nullptr; }));
    EXPECT_TRUE(refuses(128, [](auto& p) { p.k_tail.scale = nullptr; }));
    EXPECT_TRUE(refuses(128, [](auto& p) { p.k_carved.dtype = p.q.dtype; }));
  }
}

class ScoresOn : public Launch, public ::testing::WithParamInterface<Case> {};

TEST_P(ScoresOn, TakeTheKernelAndTheSharedMemoryOfTheirGeneration) {
  on(GetParam().device);
  ASSERT_EQ(cuda::select_blocks(select_case(kHalf, GetParam().head_dim), address(20), nullptr), CUDA_SUCCESS);
  EXPECT_EQ(shapes(), GetParam().shapes);
}

INSTANTIATE_TEST_SUITE_P(
    Generations, ScoresOn,
    ::testing::Values(Case{kA100,
                           8,
                           {"jenga_average_cells_fp16 4 256 0", "jenga_sm80_score_shifts_32_fp16 18 128 12288",
                            "jenga_sm80_score_masses_32_fp16 18 128 12288", "jenga_select_blocks 60 128 1280"}},
                      Case{kA100,
                           64,
                           {"jenga_average_cells_fp16 30 256 0", "jenga_sm80_score_shifts_64_fp16 18 128 24576",
                            "jenga_sm80_score_masses_64_fp16 18 128 24576", "jenga_select_blocks 60 128 1280"}},
                      Case{kA100,
                           96,
                           {"jenga_average_cells_fp16 45 256 0", "jenga_sm80_score_shifts_96_fp16 18 128 36864",
                            "jenga_sm80_score_masses_96_fp16 18 128 36864", "jenga_select_blocks 60 128 1280"}},
                      Case{kA100,
                           192,
                           {"jenga_average_cells_fp16 89 256 0", "jenga_sm80_score_shifts_192_fp16 30 128 49152",
                            "jenga_sm80_score_masses_192_fp16 30 128 49152", "jenga_select_blocks 60 128 1280"}},
                      Case{kA100,
                           256,
                           {"jenga_average_cells_fp16 118 256 0", "jenga_sm80_score_shifts_256_fp16 30 128 65536",
                            "jenga_sm80_score_masses_256_fp16 30 128 65536", "jenga_select_blocks 60 128 1280"}},
                      Case{kH100,
                           40,
                           {"jenga_average_cells_fp16 19 256 0", "jenga_sm80_score_shifts_64_fp16 18 128 24576",
                            "jenga_sm80_score_masses_64_fp16 18 128 24576", "jenga_select_blocks 60 128 1280"}},
                      Case{kH100,
                           64,
                           {"jenga_average_cells_fp16 30 256 0", "jenga_sm90_score_shifts_64_fp16 12 512 99424",
                            "jenga_sm90_score_masses_64_fp16 60 512 99424", "jenga_select_blocks 60 128 1280"}},
                      Case{kH100,
                           128,
                           {"jenga_average_cells_fp16 59 256 0", "jenga_sm90_score_shifts_128_fp16 12 512 197728",
                            "jenga_sm90_score_masses_128_fp16 60 512 197728", "jenga_select_blocks 60 128 1280"}},
                      Case{kRtx5090,
                           128,
                           {"jenga_average_cells_fp16 59 256 0", "jenga_sm80_score_shifts_128_fp16 18 128 49152",
                            "jenga_sm80_score_masses_128_fp16 18 128 49152", "jenga_select_blocks 60 128 1280"}}));

TEST_F(Launch, LongRowsOfMassesGetAThreadBlockEachAndTooLongOnesAreRefused) {
  const void* const workspace = address(20);
  ASSERT_EQ(cuda::select_blocks(select_case(kBrain, 64, 2000000), const_cast<void*>(workspace), nullptr), CUDA_SUCCESS);
  EXPECT_EQ(shapes().back(), "jenga_select_blocks 93750 32 125008");
  EXPECT_EQ(cuda::select_blocks(select_case(kBrain, 64, 200000000), const_cast<void*>(workspace), nullptr),
            CUDA_ERROR_NOT_SUPPORTED);
}

// An older GPU (Turing, 7.5) has no kernel here: the error that the operator turns into words.
TEST_F(Launch, OlderGenerationsHaveNoKernel) {
  on({7, 5, 72, 65536, 65536, 0});
  EXPECT_EQ(cuda::block_sparse_attention(attention_case(kHalf, 64), address(21), nullptr), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(shapes(), Shapes{});
}

void force(const char* sm) {
#ifdef _WIN32
  _putenv_s("JENGA_FORCE_SM", sm);
#else
  setenv("JENGA_FORCE_SM", sm, 1);
#endif
}

TEST_F(Launch, AGenerationCanBeForced) {
  on(kH100);
  force("80");
  const CUresult attention = cuda::block_sparse_attention(attention_case(kBrain, 128), address(21), nullptr);
  const CUresult scores = cuda::select_blocks(select_case(kBrain, 128), address(20), nullptr);
  force("86");
  const CUresult newer = cuda::block_sparse_attention(attention_case(kBrain, 128), address(21), nullptr);
  force("89");
  const CUresult fp8 = cuda::block_sparse_attention(fp8_attention_case(kBrain, 128), address(21), nullptr);
  force("");
  EXPECT_EQ(fp8, CUDA_SUCCESS);
  EXPECT_EQ(shapes().back(), "jenga_sm89_fp8_attention_128_bf16 504 128 33956");
  ASSERT_EQ(attention, CUDA_SUCCESS);
  ASSERT_EQ(scores, CUDA_SUCCESS);
  ASSERT_EQ(newer, CUDA_SUCCESS);
  EXPECT_EQ(shapes()[1], "jenga_sm80_attention_128_bf16 252 128 82500");
  EXPECT_EQ(shapes()[3], "jenga_sm80_score_shifts_128_bf16 18 128 49152");
  EXPECT_EQ(shapes()[7], "jenga_sm86_attention_128_bf16 252 128 57668");
}

}  // namespace
}  // namespace jenga::testing
