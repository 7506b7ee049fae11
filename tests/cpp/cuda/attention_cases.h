// The cases that attention kernels are tried on.
#pragma once

#include "tests/cpp/cuda/attention_case.h"

namespace jenga::testing {

// Those of every kernel, and more.
inline std::vector<AttentionCase> cases_with(std::initializer_list<AttentionCase> more) {
  std::vector<AttentionCase> cases{
      {.name = "Dense", .num_video = 512, .lists = Lists::kFull},
      {.name = "Random64"},
      {.name = "Random128", .kv_block_size = 128},
      {.name = "Fp16", .dtype = DataType::kFloat16},
      {.name = "Uneven", .num_video = 900, .lists = Lists::kUneven, .heads = 3},
      {.name = "Empty", .lists = Lists::kEmpty},
      {.name = "EmptyButContext", .num_context = 20, .lists = Lists::kEmpty},
      {.name = "RaggedBlockOnly", .num_video = 450, .kv_block_size = 128, .lists = Lists::kLast},
      {.name = "OneToken", .num_video = 1, .lists = Lists::kFull},
      {.name = "BiasedContext", .num_context = 77, .bias = Bias::kFinite},
      {.name = "MaskedContext", .num_context = 200, .kv_block_size = 128, .bias = Bias::kMasked},
      {.name = "Tail64Blocks64", .num_context = 50, .num_video = 900, .tail_block_size = 64},
      {.name = "Tail32Blocks64", .num_video = 900, .tail_block_size = 32, .lists = Lists::kUneven},
      {.name = "Tail32Blocks128", .num_video = 900, .kv_block_size = 128, .tail_block_size = 32},
      {.name = "Tail128Blocks128", .num_video = 900, .kv_block_size = 128, .tail_block_size = 128},
      {.name = "TailEverythingDropped", .tail_block_size = 64, .lists = Lists::kEmpty},
      {.name = "TailManyUnits", .num_video = 4500, .tail_block_size = 32, .heads = 1},
      {.name = "TailBias", .num_context = 50, .num_video = 900, .tail_block_size = 64, .batch = 2, .tail_bias = true},
      {.name = "TailBias32", .num_video = 4500, .tail_block_size = 32, .lists = Lists::kOne, .tail_bias = true},
      {.name = "Batch3", .num_context = 33, .tail_block_size = 64, .bias = Bias::kMasked, .batch = 3},
      {.name = "ResidualFp32", .residual = ResidualType::kFloat32},
      {.name = "ResidualInt8", .num_context = 30, .residual = ResidualType::kInt8},
      {.name = "ResidualInt4", .num_context = 30, .residual = ResidualType::kInt4}};
  cases.insert(cases.end(), more);
  return cases;
}

}  // namespace jenga::testing
