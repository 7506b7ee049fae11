// What copy_rows asks of the driver, and what it refuses.
#include "kernels/cuda/common/copy_rows.h"

#include "kernels/cuda/launch.h"
#include "tests/cpp/cuda/copy_rows_case.h"
#include "tests/cpp/cuda/driver/launches.h"

namespace jenga::testing {
namespace {

const CUstream kStream = static_cast<CUstream>(address(30));
// Three heads of a projection's 24, to where they lie without gaps.
constexpr CopyRowsCase kPiece{"", 3, 1, 3, 115456, 256, {true, 24, 12}, {true, 3, 0}};

CopyRowsParams params_of(const CopyRowsCase& c) {
  return c.params({address(1), address(2), address(3), address(4)}, {address(5), address(6), address(7), address(8)});
}

TEST_F(Launch, CopyRowsJoinsHeadsThatLieSideBySide) {
  ASSERT_EQ(cuda::copy_rows(params_of(kPiece), kStream), CUDA_SUCCESS);
  const int64_t vectors = 115456 * 3 * 16, blocks = 3 * 5412;
  ASSERT_EQ(shapes(), Shapes{"jenga_copy_rows " + std::to_string(blocks) + " 256 0"});
  EXPECT_EQ(launched[0].stream, kStream);
  const auto args = launched[0].as<cuda::CopyRowsArguments>();
  EXPECT_EQ(args.plane_vectors, vectors);
  EXPECT_EQ(args.row_vectors.value, 48u);
  EXPECT_EQ(args.plane_blocks.value, 5412u);
  EXPECT_EQ(args.heads.value, 1u);
  EXPECT_EQ(args.batch.value, 1u);
  EXPECT_EQ(args.pairs[1].source, static_cast<char*>(address(2)) + 12 * 256);
  EXPECT_EQ(args.pairs[1].target, address(6));
  EXPECT_EQ(args.pairs[1].source_strides.token, 24 * 16);
  EXPECT_EQ(args.pairs[1].target_strides.token, 3 * 16);
}

TEST_F(Launch, CopyRowsOfHeadsApartHasAPlaneForEach) {
  CopyRowsCase c = kPiece;
  c.batch = 2;
  c.target.tokens_first = false;
  ASSERT_EQ(cuda::copy_rows(params_of(c), kStream), CUDA_SUCCESS);
  ASSERT_EQ(shapes(), Shapes{"jenga_copy_rows " + std::to_string(3 * 2 * 3 * 1804) + " 256 0"});
  const auto args = launched[0].as<cuda::CopyRowsArguments>();
  EXPECT_EQ(args.row_vectors.value, 16u);
  EXPECT_EQ(args.heads.value, 3u);
  EXPECT_EQ(args.batch.value, 2u);
}

TEST_F(Launch, CopyRowsOfNothingLaunchesNothing) {
  for (int64_t CopyRowsCase::*size : {&CopyRowsCase::pairs, &CopyRowsCase::batch, &CopyRowsCase::tokens}) {
    CopyRowsCase none = kPiece;
    none.*size = 0;
    EXPECT_EQ(cuda::copy_rows(params_of(none), kStream), CUDA_SUCCESS);
  }
  EXPECT_EQ(shapes(), Shapes{});
}

TEST_F(Launch, CopyRowsRefusesWhatIsOffSixteenBytesOrTooLarge) {
  const auto refused = [](auto change) {
    CopyRowsParams params = params_of(kPiece);
    change(params);
    return cuda::copy_rows(params, kStream);
  };
  constexpr CUresult kMisaligned = CUDA_ERROR_MISALIGNED_ADDRESS, kTooLarge = CUDA_ERROR_INVALID_VALUE;
  EXPECT_EQ(refused([](auto& p) { p.row_bytes = 248; }), kMisaligned);
  EXPECT_EQ(refused([](auto& p) { p.pairs[2].target = static_cast<char*>(p.pairs[2].target) + 8; }), kMisaligned);
  EXPECT_EQ(refused([](auto& p) { p.pairs[1].source_strides.token += 2; }), kMisaligned);
  EXPECT_EQ(refused([](auto& p) { p.pairs[1].source_strides.head += 8; }), kMisaligned);
  EXPECT_EQ(refused([](auto& p) { p.num_pairs = kMostRowCopies + 1; }), kTooLarge);
  EXPECT_EQ(refused([](auto& p) { p.tokens = int64_t{1} << 31; }), kTooLarge);
  EXPECT_EQ(refused([](auto& p) { p.batch = int64_t{1} << 31; }), kTooLarge);
  EXPECT_EQ(shapes(), Shapes{});
}

}  // namespace
}  // namespace jenga::testing
