// Inputs of tail_bias: means of query and key cells, drawn.
#pragma once

#include <limits>
#include <random>
#include <vector>

#include "kernels/numeric.h"
#include "kernels/params.h"

namespace jenga::test {

struct TailCase {
  const char* name;
  DataType dtype = DataType::kFloat32;
  int64_t head_dim = 64, num_video = 1000, q_cell_size = 16, k_cell_size = 8, tail_block_size = 64;
};

inline constexpr TailCase kTailCases[] = {
    {.name = "Plain"},
    {.name = "BFloat16", .dtype = DataType::kBFloat16, .head_dim = 128, .num_video = 2291},
    {.name = "Float16", .dtype = DataType::kFloat16, .head_dim = 72, .num_video = 4500},
    {.name = "FourParts", .dtype = DataType::kBFloat16, .tail_block_size = 32},
    {.name = "TwoParts", .dtype = DataType::kFloat16, .num_video = 777, .q_cell_size = 128, .k_cell_size = 32},
    {.name = "TwoPartsOf64", .dtype = DataType::kBFloat16, .k_cell_size = 64, .tail_block_size = 128},
    {.name = "FewQueryCells", .dtype = DataType::kBFloat16, .num_video = 130},
    {.name = "OneToken", .dtype = DataType::kFloat16, .head_dim = 8, .num_video = 1},
    {.name = "LastKeyCellAlone", .dtype = DataType::kBFloat16, .head_dim = 40, .num_video = 641},
    {.name = "Wide", .dtype = DataType::kBFloat16, .head_dim = 256, .num_video = 5000},
};

class TailCells {
 public:
  explicit TailCells(const TailCase& which) : c_(which) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    for (auto* x : {&q_, &k_}) {
      const int64_t cells = ceil_div(c_.num_video, x == &q_ ? c_.q_cell_size : c_.k_cell_size);
      const int64_t count = kBatch * kHeads * cells * c_.head_dim;
      x->resize(count * element_size(c_.dtype));
      for (int64_t i = 0; i < count; ++i) store_element(x->data(), i, c_.dtype, normal(random));
    }
  }

  void make_keys_equal() {
    const int64_t row = c_.head_dim * element_size(c_.dtype);
    for (size_t i = row; i < k_.size(); ++i) k_[i] = k_[i % row];
  }

  TailBiasParams params(float* out) const {
    return {.dtype = c_.dtype,
            .q_means = q_.data(),
            .k_means = k_.data(),
            .tail_bias = out,
            .batch = kBatch,
            .heads = kHeads,
            .head_dim = c_.head_dim,
            .num_q_cells = ceil_div(c_.num_video, c_.q_cell_size),
            .num_video = c_.num_video,
            .k_cell_size = c_.k_cell_size,
            .tail_block_size = c_.tail_block_size,
            .softmax_scale = 0.2f};
  }
  const std::vector<uint8_t>& q_means() const { return q_; }
  const std::vector<uint8_t>& k_means() const { return k_; }
  std::vector<float> unwritten() const {
    const int64_t cells = kBatch * kHeads * ceil_div(c_.num_video, c_.tail_block_size);
    return std::vector<float>(cells, std::numeric_limits<float>::quiet_NaN());
  }

 private:
  static constexpr int64_t kBatch = 2, kHeads = 3;
  TailCase c_;
  std::vector<uint8_t> q_, k_;
};

}  // namespace jenga::test
