// An attention case with int8 keys and e4m3 values in memory of the host, by the rules of kernels/params.h: values in
// rows for the reference, in blocks for the kernels.
#pragma once

#include <cmath>

#include "kernels/value_blocks.h"
#include "tests/cpp/cuda/int8_case.h"
#include "tests/cpp/cuda/outputs.h"

namespace jenga::testing {

// Codes in rows of a head as blocks.
inline std::vector<uint8_t> in_blocks(const std::vector<uint8_t>& rows, int64_t heads, int64_t rows_per_head,
                                      int64_t channels) {
  const int64_t bytes = round_up(rows_per_head, kValueBlockKeys) * channels;
  std::vector<uint8_t> blocks(std::max<int64_t>(16, heads * bytes), 0);
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t row = 0; row < rows_per_head; ++row) {
      for (int64_t c = 0; c < channels; ++c)
        blocks[head * bytes + value_offset(row, c, channels)] = rows[(head * rows_per_head + row) * channels + c];
    }
  }
  return blocks;
}

struct Fp8Case : Int8Case {
  std::vector<float> v_center, v_scale;
  std::vector<uint8_t> v_rows, v_tail_rows, v_blocks, v_tail_blocks;

  explicit Fp8Case(const AttentionCase& which) : Int8Case(which) {
    const int64_t channels = which.head_dim, heads = which.batch * which.heads, rows = which.carved_rows();
    v_center.assign(heads * channels, 0.f);
    v_scale.assign(heads * channels, 0.f);
    for (int64_t i = 0; i < heads * channels; ++i) v_center[i] = 0.01f * static_cast<float>(i % 7);
    for (size_t i = 0; i < data.v_carved.size(); ++i) {
      float& scale = v_scale[static_cast<int64_t>(i) / (rows * channels) * channels + i % channels];
      scale = std::max(scale, std::abs(data.v_carved[i] - center_of(i, rows)) / kFloat8Max);
    }
    v_rows = codes(data.v_carved, rows);
    v_tail_rows = codes(data.v_tail, std::max<int64_t>(1, which.tail_cells()));
    v_blocks = in_blocks(v_rows, heads, rows, channels);
    v_tail_blocks = in_blocks(v_tail_rows, heads, which.tail_cells(), channels);
  }

  // With values in rows, which the reference alone reads.
  BlockSparseAttentionParams rows() const {
    BlockSparseAttentionParams p = Int8Case::params(OnHost());
    p.v_carved = {v_rows.data(), p.v_carved.strides, DataType::kFloat8, v_scale.data()};
    if (shape.tail_cells() > 0) p.v_tail = {v_tail_rows.data(), p.v_tail.strides, DataType::kFloat8, v_scale.data()};
    p.v_center = v_center.data();
    return p;
  }

  // With values in blocks.
  template <class Place>
  BlockSparseAttentionParams params(Place&& place) const {
    BlockSparseAttentionParams p = Int8Case::params(place);
    const float* const scale = place(v_scale);
    const auto of = [&](const std::vector<uint8_t>& memory, int64_t number) {
      const int64_t bytes = kValueBlockKeys * shape.head_dim, head = ceil_div(number, kValueBlockKeys) * bytes;
      return Operand{place(memory), {shape.heads * head, head, bytes}, DataType::kFloat8, scale};
    };
    p.v_carved = of(v_blocks, shape.carved_rows());
    if (shape.tail_cells() > 0) p.v_tail = of(v_tail_blocks, shape.tail_cells());
    p.v_center = place(v_center);
    return p;
  }

 private:
  float center_of(size_t i, int64_t rows) const {
    return v_center[static_cast<int64_t>(i) / (rows * shape.head_dim) * shape.head_dim + i % shape.head_dim];
  }
  std::vector<uint8_t> codes(const std::vector<float>& values, int64_t rows) const {
    std::vector<uint8_t> all(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const float scale =
          v_scale[static_cast<int64_t>(i) / (rows * shape.head_dim) * shape.head_dim + i % shape.head_dim];
      all[i] = scale > 0 ? float_to_fp8((values[i] - center_of(i, rows)) * (1 / scale)) : 0;
    }
    return all;
  }
};

// Rows of video queries of [B, H, S, D] in raster order.
inline std::vector<double> of_video(const Fp8Case& host, const std::vector<double>& rows) {
  const int64_t tokens = host.shape.tokens(), channels = host.shape.head_dim;
  std::vector<double> kept;
  for (int64_t head = 0; head < host.shape.batch * host.shape.heads; ++head) {
    for (int64_t i = host.shape.num_context; i < tokens; ++i) {
      const auto row = rows.begin() + (head * tokens + host.data.token_index[i]) * channels;
      kept.insert(kept.end(), row, row + channels);
    }
  }
  return kept;
}

// A score between two codes of a weight may get either one here and there. Where that weight is a good part of its row,
// lse moves by up to a step of e4m3, an eighth: in one row of every thousand begun at most. The reference's does so too
// where all scores are a hair larger, or smaller, but in one whole thousand for one row: a code of its query may have
// been between two as well.
inline void expect_lse_but_for_codes(const Fp8Case& host, const std::vector<float>& got,
                                     const std::vector<double>& wanted, int64_t unit_keys) {
  constexpr double kSame = 0.01;
  expect_lse(got, wanted, std::log(9.0 / 8));
  std::vector<size_t> moved;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (std::isfinite(wanted[i]) && std::abs(got[i] - wanted[i]) > kSame) moved.push_back(i);
  }
  EXPECT_LE(moved.size(), (wanted.size() + 999) / 1000) << "rows whose lse is off by more than " << kSame;
  for (const float hair : {0.9999f, 1.0001f}) {
    if (moved.empty()) return;
    BlockSparseAttentionParams params = host.rows();
    params.softmax_scale *= hair;
    const std::vector<double> beside = by_reference(params, unit_keys).lse;
    std::erase_if(moved, [&](size_t i) { return std::abs(got[i] - beside[i]) <= kSame; });
  }
  EXPECT_LE(moved.size(), wanted.size() / 1000) << "of them the reference never has";
}

// got: of a kernel, beside the reference's. Both round weights alike, so they are nearer to each other than to what
// nothing was rounded for; kernels keep fewer bits of sums. unit_keys: of the kernel. Written so that a NaN fails.
inline void expect_as_near_as_the_reference(const Fp8Case& host, const Outputs& got, int64_t unit_keys) {
  const AttentionResult reference = by_reference(host.rows(), unit_keys), exact = host.data.exact();
  const auto expect_near = [](const auto& out, const auto& by_reference, const auto& wanted) {
    const double error = relative_error(out, wanted), least = relative_error(by_reference, wanted);
    EXPECT_TRUE(least <= 0.06) << "relative error of the reference " << least;
    EXPECT_TRUE(error <= 1.1 * least + 4e-3) << "relative error " << error << ", of the reference " << least;
    const double between = relative_error(out, by_reference);
    EXPECT_TRUE(between <= 0.01) << "relative error to the reference " << between;
  };
  const std::vector<double> out = decoded(host.shape.dtype, got.out);
  expect_near(out, reference.out, exact.out);
  if (host.shape.bias == Bias::kSink)  // beside which those of the context, who have no bias, are large
    expect_near(of_video(host, out), of_video(host, reference.out), of_video(host, exact.out));
  expect_lse_but_for_codes(host, got.lse, reference.lse, unit_keys);
}

// What is run on the host, thread by thread: units of every kind, in few of them.
inline std::vector<AttentionCase> emulated_fp8_cases() {
  constexpr DataType kHalf = DataType::kFloat16;
  return {
      AttentionCase{.name = "OneToken", .num_video = 1, .lists = Lists::kFull, .batch = 2},
      AttentionCase{.name = "Dense", .num_video = 512, .lists = Lists::kFull, .heads = 1},
      AttentionCase{.name = "Random64", .num_video = 500, .heads = 1},
      AttentionCase{.name = "Random128Fp16", .dtype = kHalf, .num_video = 450, .kv_block_size = 128, .heads = 1},
      AttentionCase{.name = "LongLists", .num_video = 1300, .lists = Lists::kUneven, .heads = 1},
      AttentionCase{.name = "RaggedBlockOnly", .num_video = 450, .kv_block_size = 128, .lists = Lists::kLast},
      AttentionCase{.name = "Empty", .num_video = 140, .lists = Lists::kEmpty, .heads = 1},
      AttentionCase{.name = "EmptyButContext", .num_context = 20, .num_video = 140, .lists = Lists::kEmpty},
      AttentionCase{.name = "MaskedContext",
                    .num_context = 200,
                    .kv_block_size = 128,
                    .bias = Bias::kMasked,
                    .batch = 2,
                    .heads = 1},
      AttentionCase{
          .name = "Sink", .num_context = 5, .num_video = 520, .lists = Lists::kFull, .bias = Bias::kSink, .heads = 1},
      AttentionCase{.name = "BiasedContext", .num_context = 77, .num_video = 200, .bias = Bias::kFinite, .heads = 1},
      AttentionCase{.name = "Tail64", .num_context = 50, .num_video = 900, .tail_block_size = 64, .heads = 1},
      AttentionCase{.name = "TailOfWholeCells", .num_context = 20, .num_video = 960, .tail_block_size = 64, .heads = 1},
      AttentionCase{.name = "Tail32Blocks128", .num_video = 330, .kv_block_size = 128, .tail_block_size = 32},
      AttentionCase{.name = "TailEverythingDropped", .tail_block_size = 64, .lists = Lists::kEmpty, .heads = 1},
      AttentionCase{.name = "ResidualInt8", .num_context = 9, .num_video = 150, .residual = ResidualType::kInt8}};
}

}  // namespace jenga::testing
