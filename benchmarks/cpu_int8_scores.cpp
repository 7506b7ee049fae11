// What int8 queries and keys could gain on a CPU with VNNI: the parts of the carved attention kernel of the avx512_bf16
// tier, timed apart on a unit that lies in the caches, and its scores out of int8 codes beside them. No kernel: it
// leaves out what int8 would cost besides (codes and scales of queries, the offset that unsigned queries need). One
// thread:
//
//   g++ -std=c++20 -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math -mavx512f -mavx512bw -mavx512dq -mavx512vl
//     -mfma -mf16c -mavx512bf16 -mavx512vnni -I. benchmarks/cpu_int8_scores.cpp -o build/cpu_int8_scores
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels/cpu/avx512/simd.h"
// simd.h comes first: the headers below are written in its terms.
#include "kernels/cpu/vector_math.h"
//
#include "kernels/cpu/attention.h"
#include "kernels/cpu/avx512_bf16/dot_math.h"

namespace jenga::cpu {
namespace {

// Four channels a word: unsigned query bytes, signed key bytes, int32 sums in the lanes of a Vec.
struct Int8Math {
  static constexpr int64_t kPerWord = 4;
  static constexpr int64_t kScoreChain = kMaxHeadDim;
  static Vec broadcast(const float* word) { return set1(*word); }
  static Vec dot(Vec sum, Vec a, Vec b) {
    const auto bits = [](Vec v) { return _mm512_castps_si512(v); };
    return _mm512_castsi512_ps(_mm512_dpbusd_epi32(bits(sum), bits(a), bits(b)));
  }
};

// Sums back to scores by the scales of row and key.
void scale_panel(float* panel, float row_scale, const float* key_scales) {
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kUnitKeys; c += kWidth) {
      float* const at = panel + r * kUnitKeys + c;
      store(at, _mm512_cvtepi32_ps(_mm512_castps_si512(load(at))) * (set1(row_scale) * load(key_scales + c)));
    }
  }
}

struct Unit {
  static constexpr int64_t kRowsOfBlock = 128;
  int64_t head_dim;
  std::vector<float> q, k, v, weights, panel, out, l, m, alpha, scales;

  explicit Unit(int64_t d)
      : head_dim(d),
        q(kRowsOfBlock * d / 2),
        k(kUnitKeys * d / 2),
        v(kUnitKeys / 2 * d),
        weights(kRowsOfBlock * kUnitKeys / 2),
        panel(kRows * kUnitKeys),
        out(kRowsOfBlock * d),
        l((kRowsOfBlock + 16) * kWidth),
        m(kRowsOfBlock + 2 * kWidth),
        alpha(kRowsOfBlock + 2 * kWidth),
        scales(kUnitKeys, 1e-3f) {}

  template <class Math>
  void score(int64_t r) {
    const int64_t words = head_dim / Math::kPerWord;
    score_panel<Math, kRows>(panel.data(), q.data() + r * words, k.data(), words);
  }
  void softmax(int64_t r) {
    softmax_panel<DotMath, kRows, false>(panel.data(), nullptr, 0.1f, &m[r], &l[r * kWidth], &alpha[r]);
    DotMath::pack_weights(weights.data() + r * kUnitKeys / 2, panel.data(), kRows * kUnitKeys);
  }
  void accumulate(int64_t r) {
    for (int64_t c = 0; c < head_dim / kWidth; c += kValueVecs) {
      accumulate_channels<DotMath, kRows>(kValueVecs, &out[r * head_dim + c * kWidth], head_dim, &alpha[r],
                                          &weights[r * kUnitKeys / 2], &v[c * kWidth], head_dim, kUnitKeys / 2);
    }
  }
};

// Seconds of one unit of 128 rows, the smallest of many.
template <class Work>
double seconds(Work work) {
  double best = 1;
  for (int repeat = 0; repeat < 300; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    for (int unit = 0; unit < 8; ++unit) {
      for (int64_t r = 0; r < Unit::kRowsOfBlock; r += kRows) work(r);
    }
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / 8);
  }
  return best;
}

void measure(int64_t head_dim) {
  Unit unit(head_dim);
  const double bf16 = seconds([&](int64_t r) { unit.score<DotMath>(r); });
  const double int8 = seconds([&](int64_t r) {
    unit.score<Int8Math>(r);
    scale_panel(unit.panel.data(), 1e-2f, unit.scales.data());
  });
  std::fill(unit.panel.begin(), unit.panel.end(), 0.f);
  const double softmax = seconds([&](int64_t r) { unit.softmax(r); });
  const double values = seconds([&](int64_t r) { unit.accumulate(r); });
  const double whole = bf16 + softmax + values;
  std::printf("| %lld | %.0f %% | %.0f %% | %.0f %% | %.2f | %.2f |\n", static_cast<long long>(head_dim),
              100 * bf16 / whole, 100 * softmax / whole, 100 * values / whole, bf16 / int8,
              whole / (whole - bf16 + int8));
}

}  // namespace
}  // namespace jenga::cpu

int main() {
  std::printf("| head dim | scores | softmax | values | scores in int8, x faster | kernel, x faster at most |\n");
  std::printf("|---|---|---|---|---|---|\n");
  for (const int64_t head_dim : {64, 128}) jenga::cpu::measure(head_dim);
}
