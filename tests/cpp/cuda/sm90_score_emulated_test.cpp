// The scoring kernels of sm_90a on the host, thread by thread (emulated/), against the formula of kernels/params.h in
// double: producers and consumers, ring, swizzled panels, fragments, ragged cells, and the shares of thread blocks.
// Needs no GPU. What it cannot see: fences that are missing, registers, and time.
#include <gtest/gtest.h>

// The stand-ins come first: the headers below are written in CUDA's terms.
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/copy_async.h"
#include "tests/cpp/cuda/emulated/kernels/cuda/sm90/wgmma.h"
//
#include "kernels/cuda/common/score_launch.h"
#include "kernels/cuda/sm90/score_consume.h"
#include "kernels/cuda/sm90/score_produce.h"
#include "tests/cpp/cuda/attention_case.h"
#include "tests/cpp/cuda/select_case.h"

namespace jenga::testing {
namespace {

using namespace cuda::sm90;
using cuda::ScoreArguments;
using cuda::ScoreWorkspace;

struct ScoreCase {
  const char* name;
  int64_t num_video, head_dim, q_cells, k_cells;
  int thread_blocks = 1;  // that share the masses
  int64_t heads = 1, kv_block_size = 64;
  DataType dtype = DataType::kBFloat16;
};

template <class T, int kHeadDim, bool kMasses>
void run(const ScoreArguments& args, int thread_blocks) {
  auto& shared = *reinterpret_cast<score::ScoreStorage<kHeadDim>*>(shared_memory);
  emulated::Block block(score::kThreads);
  emulated::grid_size.x = thread_blocks;
  for (int i = 0; i < thread_blocks; ++i) {
    std::memset(shared_memory, 0xFF, sizeof shared_memory);
    block.run(i, [&] {
      if (threadIdx.x == 0) shared.init_barriers();
      __syncthreads();
      const int group = threadIdx.x / 128;
      if (group == 0) return score::produce<T>(args, shared);
      score::consume<T, kHeadDim, kMasses>(args, shared, group - 1);
    });
  }
}

template <class T, int kHeadDim>
void run_passes(const SelectBlocksParams& params, const ScoreWorkspace& workspace, int thread_blocks) {
  const ScoreArguments shifts = cuda::shift_arguments(params, workspace, score::kRows);
  run<T, kHeadDim, false>(shifts, shifts.row_tiles);
  run<T, kHeadDim, true>(cuda::mass_arguments(params, workspace, score::kRows), thread_blocks);
}

// One head's means, [cells, D], and the tokens of each cell as a part of a whole one's.
struct Cells {
  std::vector<double> means, parts;

  double dot(int64_t cell, const Cells& other, int64_t other_cell, int64_t head_dim) const {
    double sum = 0.0;
    for (int64_t d = 0; d < head_dim; ++d) sum += means[cell * head_dim + d] * other.means[other_cell * head_dim + d];
    return sum;
  }
};

Cells cells_of(const std::vector<double>& means, int64_t head, int64_t cells, int64_t last, int64_t whole,
               int64_t head_dim) {
  const auto first = means.begin() + head * cells * head_dim;
  Cells found{{first, first + cells * head_dim}, std::vector<double>(cells, 1.0)};
  found.parts.back() = static_cast<double>(last) / static_cast<double>(whole);
  return found;
}

// Means of every `together` cells, each weighing its tokens.
Cells coarse_cells(const Cells& fine, int64_t together, DataType dtype, int64_t head_dim) {
  const auto cells = static_cast<int64_t>(fine.parts.size()), coarse = ceil_div(cells, together);
  Cells found{std::vector<double>(coarse * head_dim), std::vector<double>(coarse)};
  for (int64_t cell = 0; cell < cells; ++cell) found.parts[cell / together] += fine.parts[cell];
  for (int64_t cell = 0; cell < cells; ++cell)
    for (int64_t d = 0; d < head_dim; ++d)
      found.means[cell / together * head_dim + d] +=
          fine.means[cell * head_dim + d] * fine.parts[cell] / found.parts[cell / together];
  for (double& mean : found.means) mean = rounded(dtype, mean);
  for (double& part : found.parts) part /= static_cast<double>(together);
  return found;
}

class Sm90ScoresEmulated : public ::testing::TestWithParam<ScoreCase> {};

TEST_P(Sm90ScoresEmulated, AreTheMassesOfTheFormula) {
  const ScoreCase& shape = GetParam();
  SelectBlocksParams params = select_params(shape, 1, shape.heads);
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  const auto draw = [&](int64_t cells) {
    std::vector<float> values(shape.heads * cells * shape.head_dim);
    for (float& value : values) value = normal(random);
    return encoded(shape.dtype, values);
  };
  const std::vector<uint16_t> q_bits = draw(params.num_q_cells()), k_bits = draw(params.num_k_cells());
  const std::vector<double> q_means = decoded(shape.dtype, q_bits), k_means = decoded(shape.dtype, k_bits);
  std::vector<Cells> queries, keys, coarse;
  std::vector<uint16_t> coarse_bits;
  for (int64_t head = 0; head < shape.heads; ++head) {
    queries.push_back(
        cells_of(q_means, head, params.num_q_cells(), params.last_q_cell(), params.q_cell_size(), shape.head_dim));
    keys.push_back(
        cells_of(k_means, head, params.num_k_cells(), params.last_k_cell(), params.k_cell_size(), shape.head_dim));
    coarse.push_back(coarse_cells(keys.back(), params.cells_per_coarse(), shape.dtype, shape.head_dim));
    ASSERT_EQ(static_cast<int64_t>(coarse.back().parts.size()), params.num_coarse());
    for (const double mean : coarse.back().means) coarse_bits.push_back(encode(shape.dtype, static_cast<float>(mean)));
  }
  params.q_means = q_bits.data();
  params.k_means = k_bits.data();
  const int64_t stride = cuda::mass_stride(params), rows = shape.heads * params.num_q_blocks();
  std::vector<float> shifts(shape.heads * params.num_q_cells(), NAN), masses(rows * stride, NAN);
  const ScoreWorkspace workspace{coarse_bits.data(), shifts.data(), masses.data()};
  const bool bf16 = shape.dtype == DataType::kBFloat16;
  const auto passes = shape.head_dim == 64 ? (bf16 ? run_passes<__nv_bfloat16, 64> : run_passes<__half, 64>)
                                           : (bf16 ? run_passes<__nv_bfloat16, 128> : run_passes<__half, 128>);
  passes(params, workspace, shape.thread_blocks);

  const double scale = params.softmax_scale;
  for (int64_t head = 0; head < shape.heads; ++head) {
    std::vector<double> wanted(params.num_q_blocks() * stride);
    for (int64_t a = 0; a < params.num_q_cells(); ++a) {
      double all = 0.0;
      for (int64_t j = 0; j < params.num_coarse(); ++j)
        all += coarse[head].parts[j] * std::exp(scale * queries[head].dot(a, coarse[head], j, shape.head_dim));
      for (int64_t c = 0; c < params.num_k_cells(); ++c)
        wanted[a / shape.q_cells * stride + c / shape.k_cells] +=
            queries[head].parts[a] * keys[head].parts[c] / all *
            std::exp(scale * queries[head].dot(a, keys[head], c, shape.head_dim));
    }
    for (int64_t row = 0; row < params.num_q_blocks(); ++row) {
      for (int64_t block = 0; block < params.num_kv_blocks(); ++block) {
        const double mass = wanted[row * stride + block];
        ASSERT_NEAR(masses[(head * params.num_q_blocks() + row) * stride + block], mass, 1e-5 * mass)
            << "head " << head << ", query block " << row << ", key block " << block;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Sm90ScoresEmulated,
                         ::testing::Values(ScoreCase{"Cells8x8", 1600, 128, 8, 8}, ScoreCase{"OneToken", 1, 128, 8, 8},
                                           ScoreCase{"OneThreadBlockForAll", 3597, 64, 8, 8, 1, 2},
                                           ScoreCase{"ThreadBlocksThatEndAmidATile", 3597, 64, 8, 8, 3, 2},
                                           ScoreCase{"AThreadBlockForEachPair", 2050, 128, 8, 8, 6, 2},
                                           ScoreCase{"Cells1x1", 3000, 64, 1, 1}, ScoreCase{"Cells2x4", 2177, 64, 2, 4},
                                           ScoreCase{"Cells4x2", 2177, 64, 4, 2}, ScoreCase{"Cells1x8", 1111, 64, 1, 8},
                                           ScoreCase{"Blocks128", 3001, 64, 8, 8, 2, 1, 128},
                                           ScoreCase{"Fp16", 1501, 128, 4, 4, 2, 1, 64, DataType::kFloat16}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace jenga::testing
