// The case list of the CPU kernels, and tensors to run it on. Every case runs in every dtype on every tier that the
// machine has, against the fp64 reference.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/numeric.h"
#include "kernels/reference/reference.h"

namespace jenga::test {

enum class Lists { kRandom, kEmpty, kOne, kAll };

struct Case {
  const char* name;
  int64_t batch = 1, heads = 2, head_dim = 64;
  int64_t context_before = 0, video = 256, context_after = 0;
  int64_t q_block_size = 128, kv_block_size = 64, tail_block_size = 0;
  int64_t q_cell_size = 16, k_cell_size = 8;
  Lists lists = Lists::kRandom;
  bool text_bias = false;       // finite bias on every context column
  bool masked_context = false;  // -inf on every third one, whose keys and values hold NaN
  bool tail_bias = false;       // tail cells count as more or less than their tokens
  bool strided = false;         // padded token strides, tensors that start off any alignment
  ResidualType residual = ResidualType::kNone;

  int64_t context() const { return context_before + context_after; }
  int64_t tokens() const { return context() + video; }
};

inline std::vector<Case> cases() {
  return {
      {.name = "Plain"},
      {.name = "RaggedTail", .video = 203, .tail_block_size = 64},
      {.name = "RaggedToOneToken", .video = 257, .tail_block_size = 32},
      {.name = "OneToken", .video = 1, .tail_block_size = 64},
      {.name = "OneBlock", .video = 64, .lists = Lists::kAll},
      {.name = "EmptyLists", .video = 192, .lists = Lists::kEmpty},
      {.name = "EmptyListsWithTail", .video = 192, .tail_block_size = 64, .lists = Lists::kEmpty},
      {.name = "OneKeptBlock", .video = 320, .tail_block_size = 64, .lists = Lists::kOne},
      {.name = "Everything", .context_before = 5, .video = 320, .tail_block_size = 32, .lists = Lists::kAll},
      {.name = "BatchThree", .batch = 3, .heads = 1, .context_before = 7, .video = 150, .text_bias = true},
      {.name = "ContextBefore", .context_before = 130, .video = 200, .tail_block_size = 64},
      {.name = "ContextAfter", .video = 200, .context_after = 77, .tail_block_size = 64},
      {.name = "ContextBothSides", .context_before = 20, .video = 200, .context_after = 44, .text_bias = true},
      {.name = "ContextOfManyUnits", .heads = 1, .context_before = 200, .video = 70, .text_bias = true},
      {.name = "MaskedContext", .batch = 2, .context_before = 70, .video = 130, .masked_context = true},
      {.name = "MaskedAndBiased", .context_after = 90, .text_bias = true, .masked_context = true},
      {.name = "Strided", .context_before = 9, .video = 200, .tail_block_size = 64, .strided = true},
      {.name = "QueryBlocks64", .video = 300, .q_block_size = 64, .tail_block_size = 64},
      {.name = "KeyBlocks128", .video = 500, .kv_block_size = 128, .q_cell_size = 128, .k_cell_size = 128},
      {.name = "KeyBlocks128Tail32", .video = 500, .kv_block_size = 128, .tail_block_size = 32},
      {.name = "KeyBlocks128Tail64",
       .video = 500,
       .kv_block_size = 128,
       .tail_block_size = 64,
       .q_cell_size = 8,
       .k_cell_size = 64},
      {.name = "KeyBlocks128Tail128", .video = 500, .kv_block_size = 128, .tail_block_size = 128, .q_cell_size = 32},
      {.name = "ManyTailUnits", .heads = 1, .head_dim = 16, .video = 2500, .tail_block_size = 32},
      {.name = "TailBias", .batch = 2, .context_before = 7, .video = 300, .tail_block_size = 64, .tail_bias = true},
      {.name = "TailBiasManyUnits", .video = 2500, .tail_block_size = 32, .lists = Lists::kOne, .tail_bias = true},
      {.name = "HeadDim8", .head_dim = 8, .context_before = 3, .tail_block_size = 64},
      {.name = "HeadDim24", .head_dim = 24, .tail_block_size = 64, .strided = true},
      {.name = "HeadDim72", .head_dim = 72, .context_before = 3},
      {.name = "HeadDim96", .head_dim = 96, .tail_block_size = 64},
      {.name = "HeadDim128", .head_dim = 128, .context_before = 3, .tail_block_size = 64},
      {.name = "HeadDim136", .heads = 1, .head_dim = 136},
      {.name = "HeadDim256", .heads = 1, .head_dim = 256, .context_before = 3, .tail_block_size = 64, .strided = true},
      {.name = "ResidualFloat32", .context_before = 3, .residual = ResidualType::kFloat32},
      {.name = "ResidualBFloat16", .context_before = 3, .residual = ResidualType::kBFloat16},
      {.name = "ResidualFloat16", .residual = ResidualType::kFloat16},
      {.name = "ResidualInt8", .context_before = 3, .residual = ResidualType::kInt8},
      {.name = "ResidualInt4", .head_dim = 40, .context_before = 3, .residual = ResidualType::kInt4},
  };
}

inline const char* dtype_name(DataType type) {
  return type == DataType::kFloat32 ? "Float32" : type == DataType::kBFloat16 ? "BFloat16" : "Float16";
}

// Half a unit in the last place of 1.
inline double epsilon(DataType type) {
  return type == DataType::kFloat32 ? 0x1p-24 : type == DataType::kBFloat16 ? 0x1p-9 : 0x1p-12;
}

// [B, H, rows, D] in memory order [B, rows, H, D]; strided ones have a gap after every token and start one element
// late. Fresh memory is NaN in every dtype.
struct Tensor {
  DataType type = DataType::kFloat32;
  Strides strides;
  std::vector<uint8_t> bytes;
  int64_t offset = 0;

  Tensor() = default;
  Tensor(DataType dtype, int64_t batch, int64_t heads, int64_t rows, int64_t head_dim, bool strided)
      : type(dtype), offset(strided ? 1 : 0) {
    const int64_t token = heads * head_dim + (strided ? 5 : 0);
    strides = {.batch = rows * token, .head = head_dim, .token = token};
    bytes.assign((batch * rows * token + offset) * element_size(type), 0xff);
  }
  void* data() { return bytes.data() + offset * element_size(type); }
  const void* data() const { return bytes.data() + offset * element_size(type); }
  Operand operand() const { return {data(), strides, type}; }
  int64_t at(int64_t b, int64_t h, int64_t row) const {
    return b * strides.batch + h * strides.head + row * strides.token;
  }
};

inline void fill_normal(Tensor& x, int64_t batch, int64_t heads, int64_t rows, int64_t head_dim, std::mt19937& random) {
  std::normal_distribution<float> normal;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t d = 0; d < head_dim; ++d) store_element(x.data(), x.at(b, h, row) + d, x.type, normal(random));
      }
    }
  }
}

// Everything one case needs, in memory.
struct Inputs {
  Case c;
  DataType type;
  Tensor q, k, v, k_carved, v_carved;
  std::vector<int32_t> token_index, kv_block_index, kv_block_count;
  std::vector<uint8_t> k_tail, v_tail, residual;
  std::vector<float> context_bias, residual_scale, tail_bias;
  int64_t max_kv = 0;

  Inputs(const Case& which, DataType dtype) : c(which), type(dtype) {
    std::mt19937 random(7);
    for (Tensor* x : {&q, &k, &v}) {
      *x = Tensor(type, c.batch, c.heads, c.tokens(), c.head_dim, c.strided);
      fill_normal(*x, c.batch, c.heads, c.tokens(), c.head_dim, random);
    }
    make_token_index(random);
    make_context_bias(random);
    make_carved();
    make_lists(random);
    make_residual(random);
    make_tail_bias(random);
  }

  PrepareBlocksParams prepare_params() {
    return {.q = q.operand(),
            .k = k.operand(),
            .v = v.operand(),
            .token_index = token_index.data(),
            .context_bias = context_bias.empty() ? nullptr : context_bias.data(),
            .k_carved = nullptr,
            .v_carved = nullptr,
            .q_means = nullptr,
            .k_means = nullptr,
            .k_tail = nullptr,
            .v_tail = nullptr,
            .batch = c.batch,
            .heads = c.heads,
            .head_dim = c.head_dim,
            .num_context = c.context(),
            .num_video = c.video,
            .q_cell_size = c.q_cell_size,
            .k_cell_size = c.k_cell_size,
            .tail_block_size = c.tail_block_size};
  }

  BlockSparseAttentionParams attention_params(Tensor& out, std::vector<float>& lse) {
    return {.q = q.operand(),
            .k_carved = k_carved.operand(),
            .v_carved = v_carved.operand(),
            .k_tail = tail(k_tail),
            .v_tail = tail(v_tail),
            .kv_block_index = kv_block_index.data(),
            .kv_block_count = kv_block_count.data(),
            .token_index = token_index.data(),
            .context_bias = context_bias.empty() ? nullptr : context_bias.data(),
            .residual = residual.empty() ? nullptr : residual.data(),
            .residual_scale = residual_scale.empty() ? nullptr : residual_scale.data(),
            .residual_type = c.residual,
            .out = {out.data(), out.strides, out.type},
            .lse = lse.data(),
            .batch = c.batch,
            .heads = c.heads,
            .head_dim = c.head_dim,
            .num_context = c.context(),
            .num_video = c.video,
            .max_kv = max_kv,
            .q_block_size = c.q_block_size,
            .kv_block_size = c.kv_block_size,
            .tail_block_size = c.tail_block_size,
            .softmax_scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim)),
            .tail_bias = tail_bias.empty() ? nullptr : tail_bias.data()};
  }

  Tensor fresh_out() const { return Tensor(type, c.batch, c.heads, c.tokens(), c.head_dim, c.strided); }
  std::vector<float> fresh_lse() const {
    return std::vector<float>(c.batch * c.heads * c.tokens(), std::numeric_limits<float>::quiet_NaN());
  }

 private:
  Operand tail(const std::vector<uint8_t>& means) const {
    if (!c.tail_block_size) return {};
    const int64_t head = ceil_div(c.video, c.tail_block_size) * c.head_dim;
    return {means.data(), {.batch = c.heads * head, .head = head, .token = c.head_dim}, type};
  }
  int64_t context_rows() const { return round_up(c.context(), kContextAlignment); }

  void make_token_index(std::mt19937& random) {
    token_index.resize(c.tokens());
    for (int64_t i = 0; i < c.context(); ++i) {
      token_index[i] = static_cast<int32_t>(i < c.context_before ? i : i + c.video);
    }
    const auto video = token_index.begin() + c.context();
    std::iota(video, token_index.end(), static_cast<int32_t>(c.context_before));
    std::shuffle(video, token_index.end(), random);
  }

  void make_context_bias(std::mt19937& random) {
    if (!c.text_bias && !c.masked_context) return;
    context_bias.assign(c.batch * context_rows(), -std::numeric_limits<float>::infinity());
    std::uniform_real_distribution<float> uniform(0.0f, 1.5f);
    for (int64_t b = 0; b < c.batch; ++b) {
      for (int64_t i = 0; i < c.context(); ++i) {
        if (c.masked_context && (i + b) % 3 == 0) {
          for (int64_t h = 0; h < c.heads; ++h) {
            const float nan = std::numeric_limits<float>::quiet_NaN();
            store_element(k.data(), k.at(b, h, token_index[i]), type, nan);
            store_element(v.data(), v.at(b, h, token_index[i]), type, nan);
          }
        } else {
          context_bias[b * context_rows() + i] = c.text_bias ? uniform(random) : 0.0f;
        }
      }
    }
  }

  void make_carved() {
    const int64_t rows = context_rows() + c.video, heads = c.batch * c.heads;
    std::vector<uint8_t> flat[2];
    for (auto& x : flat) x.resize(heads * rows * c.head_dim * element_size(type));
    if (c.tail_block_size) {
      for (auto* x : {&k_tail, &v_tail}) {
        x->resize(heads * ceil_div(c.video, c.tail_block_size) * c.head_dim * element_size(type));
      }
    }
    PrepareBlocksParams p = prepare_params();
    p.k_carved = flat[0].data();
    p.v_carved = flat[1].data();
    p.k_tail = c.tail_block_size ? k_tail.data() : nullptr;
    p.v_tail = c.tail_block_size ? v_tail.data() : nullptr;
    reference::prepare_blocks(p);
    Tensor* carved[2] = {&k_carved, &v_carved};
    for (int x = 0; x < 2; ++x) {
      *carved[x] = Tensor(type, c.batch, c.heads, rows, c.head_dim, c.strided);
      for (int64_t i = 0; i < heads * rows; ++i) {
        const int64_t to = carved[x]->at(i / rows / c.heads, i / rows % c.heads, i % rows);
        std::memcpy(static_cast<char*>(carved[x]->data()) + to * element_size(type),
                    flat[x].data() + i * c.head_dim * element_size(type), c.head_dim * element_size(type));
      }
    }
  }

  void make_lists(std::mt19937& random) {
    const int64_t nkv = ceil_div(c.video, c.kv_block_size), nq = ceil_div(c.video, c.q_block_size);
    max_kv = nkv + 1;
    for (int64_t list = 0; list < c.batch * c.heads * nq; ++list) {
      std::vector<int32_t> kept;
      for (int64_t j = 0; j < nkv; ++j) {
        const bool one = c.lists == Lists::kOne && j == list % nkv;
        if (c.lists == Lists::kAll || one || (c.lists == Lists::kRandom && random() % 2)) {
          kept.push_back(static_cast<int32_t>(j));
        }
      }
      kv_block_count.push_back(static_cast<int32_t>(kept.size()));
      kept.resize(max_kv, -1);
      kv_block_index.insert(kv_block_index.end(), kept.begin(), kept.end());
    }
  }

  void make_tail_bias(std::mt19937& random) {
    if (!c.tail_bias) return;
    std::uniform_real_distribution<float> uniform(2.0f, 6.0f);
    tail_bias.resize(c.batch * c.heads * ceil_div(c.video, c.tail_block_size));
    for (float& bias : tail_bias) bias = uniform(random);
  }

  void make_residual(std::mt19937& random) {
    const int64_t rows = c.batch * c.tokens() * c.heads, elements = rows * c.head_dim;
    switch (c.residual) {
      case ResidualType::kNone:
        return;
      case ResidualType::kInt8:
      case ResidualType::kInt4:
        residual.resize(c.residual == ResidualType::kInt8 ? elements : elements / 2);
        for (auto& code : residual) code = static_cast<uint8_t>(random());
        for (int64_t i = 0; i < rows; ++i) residual_scale.push_back(1e-3f * static_cast<float>(1 + random() % 9));
        return;
      default: {
        const DataType dtype = c.residual == ResidualType::kFloat32    ? DataType::kFloat32
                               : c.residual == ResidualType::kBFloat16 ? DataType::kBFloat16
                                                                       : DataType::kFloat16;
        Tensor x(dtype, 1, 1, rows, c.head_dim, false);
        fill_normal(x, 1, 1, rows, c.head_dim, random);
        residual = x.bytes;
      }
    }
  }
};

// A thread pool for kernels: `body` over three disjoint ranges at once, or over the whole range here.
inline void parallel_for(int64_t begin, int64_t end, int64_t, ParallelBody body, void* context) {
  constexpr int64_t kThreads = 3;
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < kThreads; ++i) {
    const int64_t first = begin + (end - begin) * i / kThreads, last = begin + (end - begin) * (i + 1) / kThreads;
    if (first < last) threads.emplace_back(body, first, last, context);
  }
  for (auto& thread : threads) thread.join();
}
inline void serial_for(int64_t begin, int64_t end, int64_t, ParallelBody body, void* context) {
  if (begin < end) body(begin, end, context);
}

}  // namespace jenga::test
