// Masses of select_blocks, for any tier (include after attention.h, whose units and score panels it shares).
#pragma once

#include "kernels/cpu/selection_plan.h"

namespace jenga::cpu {
namespace {

static_assert(kGroupCells % kRows == 0);

// logits[kGroupCells][stride] in base 2: scale * <q, k>, plus the last column's own tokens; -infinity past the end.
template <class Math>
inline void group_logits(const MassJob& job, const KeyPanel& keys) {
  alignas(64) float panel[kRows * kUnitKeys];
  const int64_t units = ceil_div(keys.size, kUnitKeys);
  for (int64_t unit = 0; unit < units; ++unit) {
    for (int64_t first = 0; first < kGroupCells; first += kRows) {
      score_panel<Math, kRows>(panel, job.q_words + first * job.words, keys.units + unit * job.words * kUnitKeys,
                               job.words);
      for (int r = 0; r < kRows; ++r) {
        float* const out = job.logits + (first + r) * units * kUnitKeys + unit * kUnitKeys;
        for (int c = 0; c < kUnitKeys; c += kWidth) {
          store(out + c, load(panel + r * kUnitKeys + c) * set1(job.scale));
        }
      }
    }
  }
  for (int64_t r = 0; r < kGroupCells; ++r) {
    float* const row = job.logits + r * units * kUnitKeys;
    row[keys.size - 1] += keys.last_log2;
    for (int64_t c = keys.size; c < units * kUnitKeys; ++c) row[c] = kNoMaximum;
  }
}

template <class Math>
void pack_queries(const SelectBlocksParams& p, const void* rows, int64_t count, float* words) {
  const int64_t size = p.head_dim / Math::kPerWord;
  std::memset(words, 0, kGroupCells * size * sizeof(float));
  for (int64_t r = 0; r < count; ++r) {
    Math::pack_query(words + r * size, at(rows, r * p.head_dim, p.dtype), p.dtype, p.head_dim);
  }
}

// log2 of the sum of exp2 over a row of logits.
inline float log2_total(const float* row, int64_t size) {
  Vec best = set1(kNoMaximum);
  for (int64_t c = 0; c < size; c += kWidth) best = vmax(best, load(row + c));
  const float shift = top(best);
  Vec total = {};
  for (int64_t c = 0; c < size; c += kWidth) total = total + exp2_precise(load(row + c) - set1(shift));
  return shift + std::log2(sum(total));
}

template <class Math>
void block_masses(const MassJob& job) {
  float shifts[kGroupCells];
  group_logits<Math>(job, job.coarse);
  const int64_t coarse = round_up(job.coarse.size, kUnitKeys), cells = round_up(job.cells.size, kUnitKeys);
  for (int64_t r = 0; r < kGroupCells; ++r) shifts[r] = log2_total(job.logits + r * coarse, coarse);
  group_logits<Math>(job, job.cells);
  for (int64_t first = 0, block = 0; first < kGroupCells; first += job.q_cells, ++block) {
    std::memset(job.cell_masses, 0, cells * sizeof(float));
    for (int64_t r = first; r < first + job.q_cells; ++r) {
      const float* const row = job.logits + r * cells;
      const Vec weight = set1(job.weights[r]), shift = set1(shifts[r]);
      for (int64_t c = 0; c < cells; c += kWidth) {
        const Vec mass = exp2_precise(load(row + c) - shift);
        store(job.cell_masses + c, madd(mass, weight, load(job.cell_masses + c)));
      }
    }
    float* const out = job.block_masses + block * job.num_kv_blocks;
    for (int64_t j = 0; j < job.num_kv_blocks; ++j) {
      float mass = 0;
      for (int64_t c = j * job.k_cells; c < (j + 1) * job.k_cells; ++c) mass += job.cell_masses[c];
      out[j] = mass;
    }
  }
}

void fp32_selection(const SelectBlocksParams& params, ParallelFor parallel_for) {
  run_selection(params, parallel_for,
                {FloatMath::kPerWord, pack_unit<FloatMath>, pack_queries<FloatMath>, block_masses<FloatMath>});
}

}  // namespace
}  // namespace jenga::cpu
