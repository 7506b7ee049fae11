#include <torch/csrc/stable/library.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "csrc/ops/convert.h"

namespace jenga::ops {
namespace {

constexpr const char* kOp = "pool_blocks";

struct PoolBlocks {
  Strides strides;
  int64_t heads, tokens, head_dim, block_size, blocks;
  const void* x;
  const uint8_t* mask;    // [B, S] or null
  const int32_t* counts;  // [B, blocks]
  float* means;           // [B, H, blocks, D]

  // One block of one head, summed in runs of kRun tokens so that float32 rounding stays small.
  // The divisor is exact; an empty block stays 0.
  template <typename T>
  void run(int64_t row) const {
    constexpr int64_t kRun = 16;
    const int64_t block = row % blocks, head = row / blocks % heads, batch = row / blocks / heads;
    const int64_t first = block * block_size, last = std::min(first + block_size, tokens);
    const T* rows = static_cast<const T*>(x) + batch * strides.batch + head * strides.head;
    const uint8_t* kept = mask ? mask + batch * tokens : nullptr;
    float* mean = means + row * head_dim;
    std::fill_n(mean, head_dim, 0.0f);
    for (int64_t begin = first; begin < last; begin += kRun) {
      float sum[kMaxHeadDim] = {};
      for (int64_t s = begin; s < std::min(begin + kRun, last); ++s) {
        if (kept && !kept[s]) continue;
        for (int64_t d = 0; d < head_dim; ++d) sum[d] += static_cast<float>(rows[s * strides.token + d]);
      }
      for (int64_t d = 0; d < head_dim; ++d) mean[d] += sum[d];
    }
    const int32_t count = counts[batch * blocks + block];
    if (count == 0) return;
    for (int64_t d = 0; d < head_dim; ++d) mean[d] /= static_cast<float>(count);
  }

  template <typename T>
  void run_all(int64_t rows) const {
    torch::stable::parallel_for(0, rows, 1 + (1 << 14) / (block_size * head_dim), [this](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) run<T>(row);
    });
  }
};

std::tuple<Tensor, Tensor> pool_blocks(const Tensor& x, int64_t block_size, std::optional<Tensor> mask) {
  check_attention_tensor(kOp, "x", x);
  JENGA_REQUIRE(block_size > 0, kOp, ": block_size must be positive, got ", block_size);
  const int64_t batch = x.size(0), heads = x.size(1), tokens = x.size(2), head_dim = x.size(3);
  block_size = std::min(block_size, tokens);  // one block either way; sums below cannot overflow
  const int64_t blocks = ceil_div(tokens, block_size);
  if (mask) {
    check_device(kOp, "mask", *mask, "x", x);
    check_dtype(kOp, "mask", *mask, ScalarType::Bool);
    check_shape(kOp, "mask", *mask, {batch, tokens});
    mask = as_array(*mask);
  }
  const Tensor source = with_loadable_rows(x);
  const Tensor means = new_tensor(x, {batch, heads, blocks, head_dim}, ScalarType::Float);
  const Tensor counts = new_tensor(x, {batch, blocks}, ScalarType::Int);
  const auto* kept = mask ? data<uint8_t>(*mask) : nullptr;
  for (int64_t cell = 0; cell < batch * blocks; ++cell) {
    const int64_t first = cell % blocks * block_size, last = std::min(first + block_size, tokens);
    const auto* row = kept ? kept + cell / blocks * tokens : nullptr;
    mutable_data<int32_t>(counts)[cell] =
        static_cast<int32_t>(row ? std::count(row + first, row + last, uint8_t{1}) : last - first);
  }
  const PoolBlocks pool{strides_of(source),
                        heads,
                        tokens,
                        head_dim,
                        block_size,
                        blocks,
                        source.const_data_ptr(),
                        kept,
                        data<int32_t>(counts),
                        mutable_data<float>(means)};
  const int64_t rows = batch * heads * blocks;
  switch (data_type(x.scalar_type())) {
    case DataType::kFloat32:
      pool.run_all<float>(rows);
      break;
    case DataType::kBFloat16:
      pool.run_all<torch::headeronly::BFloat16>(rows);
      break;
    case DataType::kFloat16:
      pool.run_all<torch::headeronly::Half>(rows);
      break;
  }
  return {means, counts};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CPU, m) { m.impl("pool_blocks", TORCH_BOX(&pool_blocks)); }

}  // namespace jenga::ops
