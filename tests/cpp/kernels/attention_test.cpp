#include <gtest/gtest.h>

#include "kernels/cpu/dispatch.h"
#include "tests/cpp/kernels/cases.h"
#include "tests/cpp/kernels/plain.h"
#include "tests/cpp/kernels/reservation.h"

namespace jenga::test {
namespace {

using CaseAndType = std::tuple<Case, DataType>;

std::string test_name(const testing::TestParamInfo<CaseAndType>& info) {
  return std::string(std::get<0>(info.param).name) + dtype_name(std::get<1>(info.param));
}

struct Errors {
  double out_l2 = 0, out_max = 0, lse_max = 0;
};

// Of `out` against `exact` (fp32 storage of an fp64 result). A row that must be -inf in lse has to be exactly that.
Errors errors(const Case& c, const Tensor& out, const std::vector<float>& lse, const Tensor& exact,
              const std::vector<float>& exact_lse) {
  Errors e;
  double difference = 0, norm = 1e-30;
  for (int64_t b = 0; b < c.batch; ++b) {
    for (int64_t h = 0; h < c.heads; ++h) {
      for (int64_t s = 0; s < c.tokens(); ++s) {
        for (int64_t d = 0; d < c.head_dim; ++d) {
          const double want = load_element(exact.data(), exact.at(b, h, s) + d, exact.type);
          const double miss = load_element(out.data(), out.at(b, h, s) + d, out.type) - want;
          if (std::isnan(miss)) return {NAN, NAN, NAN};
          difference += miss * miss;
          norm += want * want;
          e.out_max = std::max(e.out_max, std::abs(miss));
        }
      }
    }
  }
  for (size_t i = 0; i < lse.size(); ++i) {
    if (lse[i] == exact_lse[i]) continue;
    e.lse_max = std::max(e.lse_max, std::isnan(lse[i]) ? INFINITY : std::abs(double{lse[i]} - exact_lse[i]));
  }
  e.out_l2 = std::sqrt(difference / norm);
  return e;
}

double largest(const Case& c, const Tensor& x) {
  double top = 0;
  for (int64_t i = 0; i < c.batch * c.heads * c.tokens() * c.head_dim; ++i) {
    const int64_t row = i / c.head_dim, s = row % c.tokens(), h = row / c.tokens() % c.heads;
    const int64_t at = x.at(row / c.tokens() / c.heads, h, s) + i % c.head_dim;
    top = std::max(top, std::abs(double{load_element(x.data(), at, x.type)}));
  }
  return top;
}

class CpuAttention : public testing::TestWithParam<CaseAndType> {};

TEST_P(CpuAttention, MatchesReferenceOnEveryTier) {
  const auto& [c, type] = GetParam();
  Inputs inputs(c, type);

  Tensor exact(DataType::kFloat32, c.batch, c.heads, c.tokens(), c.head_dim, false);
  std::vector<float> exact_lse = inputs.fresh_lse();
  // The reference stores in the dtype of its inputs; widened inputs give its result unrounded.
  Inputs wide = inputs;
  for (Tensor* x : {&wide.q, &wide.k_carved, &wide.v_carved}) {
    const auto count = static_cast<int64_t>(x->bytes.size()) / element_size(type);
    std::vector<uint8_t> bytes(count * 4);
    for (int64_t i = 0; i < count; ++i) {
      store_element(bytes.data(), i, DataType::kFloat32, load_element(x->bytes.data(), i, type));
    }
    x->bytes = bytes;
    x->type = DataType::kFloat32;
  }
  for (auto* x : {&wide.k_tail, &wide.v_tail}) {
    const auto count = static_cast<int64_t>(x->size()) / element_size(type);
    std::vector<uint8_t> bytes(count * 4);
    for (int64_t i = 0; i < count; ++i) {
      store_element(bytes.data(), i, DataType::kFloat32, load_element(x->data(), i, type));
    }
    *x = bytes;
  }
  wide.type = DataType::kFloat32;
  reference::block_sparse_attention(wide.attention_params(exact, exact_lse));

  Tensor plain = inputs.fresh_out();
  std::vector<float> plain_lse = inputs.fresh_lse();
  plain_attention(inputs.attention_params(plain, plain_lse));
  const Errors allowed = errors(c, plain, plain_lse, exact, exact_lse);
  const double eps = epsilon(type);

  for (const cpu::KernelTable* table : cpu::kernel_tables()) {
    if (!table->supported()) continue;
    SCOPED_TRACE(table->isa);
    Tensor out = inputs.fresh_out(), again = inputs.fresh_out();
    std::vector<float> lse = inputs.fresh_lse(), lse_again = inputs.fresh_lse();
    table->block_sparse_attention(inputs.attention_params(out, lse), parallel_for);
    const Errors e = errors(c, out, lse, exact, exact_lse);
    EXPECT_LE(e.out_l2, 2 * allowed.out_l2 + 2 * eps);
    EXPECT_LE(e.out_max, 2 * allowed.out_max + 2 * eps * largest(c, exact));
    EXPECT_LE(e.lse_max, 2 * allowed.lse_max + 1e-5);
    // Bitwise the same whatever the threads do, gaps between strided rows untouched.
    table->block_sparse_attention(inputs.attention_params(again, lse_again), serial_for);
    EXPECT_EQ(out.bytes, again.bytes);
    EXPECT_EQ(std::memcmp(lse.data(), lse_again.data(), lse.size() * sizeof(float)), 0);
    for (int64_t s = 0; c.strided && s + 1 < c.tokens(); ++s) {
      for (int64_t d = 0; d < 5; ++d) {
        const int64_t gap = out.at(0, c.heads - 1, s) + c.head_dim + d;
        ASSERT_TRUE(std::isnan(load_element(out.data(), gap, type)));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, CpuAttention,
                         testing::Combine(testing::ValuesIn(cases()),
                                          testing::Values(DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16)),
                         test_name);

// A head stride beyond 2^31 elements, over memory that is reserved and never touched.
TEST(CpuAttentionOffsets, StrideBeyondTwoToTheThirtyOne) {
  const Case c{.name = "Far", .heads = 2, .head_dim = 32, .context_before = 3, .video = 100};
  Inputs inputs(c, DataType::kBFloat16);
  constexpr int64_t kFar = (int64_t{1} << 31) + 64;
  const size_t bytes = static_cast<size_t>(kFar) * 2 * 2 + (1 << 20);
  Reservation memory[4];
  for (Reservation& m : memory) {
    if (!m.reserve(bytes)) GTEST_SKIP() << "cannot reserve " << bytes << " bytes of address space";
  }
  Tensor near = inputs.fresh_out();
  std::vector<float> near_lse = inputs.fresh_lse(), far_lse = inputs.fresh_lse();
  const BlockSparseAttentionParams p = inputs.attention_params(near, near_lse);
  BlockSparseAttentionParams far = p;
  Operand* const sources[3] = {&far.q, &far.k_carved, &far.v_carved};
  const int64_t rows[3] = {c.tokens(), kContextAlignment + c.video, kContextAlignment + c.video};
  for (int x = 0; x < 3; ++x) {
    for (int64_t h = 0; h < c.heads; ++h) {
      for (int64_t s = 0; s < rows[x]; ++s) {
        std::memcpy(static_cast<uint16_t*>(memory[x].data()) + h * kFar + s * c.head_dim,
                    static_cast<const uint16_t*>(sources[x]->data) + h * sources[x]->strides.head +
                        s * sources[x]->strides.token,
                    c.head_dim * 2);
      }
    }
    sources[x]->data = memory[x].data();
    sources[x]->strides = {.batch = 2 * kFar, .head = kFar, .token = c.head_dim};
  }
  far.out.data = memory[3].data();
  far.out.strides = {.batch = 2 * kFar, .head = kFar, .token = c.head_dim};
  far.lse = far_lse.data();
  for (const cpu::KernelTable* table : cpu::kernel_tables()) {
    if (!table->supported()) continue;
    SCOPED_TRACE(table->isa);
    table->block_sparse_attention(p, serial_for);
    table->block_sparse_attention(far, serial_for);
    for (int64_t h = 0; h < c.heads; ++h) {
      for (int64_t s = 0; s < c.tokens(); ++s) {
        ASSERT_EQ(std::memcmp(static_cast<uint16_t*>(far.out.data) + h * kFar + s * c.head_dim,
                              static_cast<uint16_t*>(near.data()) + near.at(0, h, s), c.head_dim * 2),
                  0);
      }
    }
    EXPECT_EQ(near_lse, far_lse);
  }
}

}  // namespace
}  // namespace jenga::test
