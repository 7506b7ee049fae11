// What all tiers share of block_sparse_attention: packing, the list of units of every query block, and its schedule.
// Compiled without instruction-set flags; a tier brings two functions, pack and attend.
//
// Packed panels, in words of 32 bit (one fp32, or a pair of bf16 for the native dot product):
//   K unit [64 / panel][D / per_word][panel keys], where a panel is what the tier scores at once; V unit
//   [64 / per_word][value_stride]; rows and channels past the end are zeros.
// A head is packed once per call and read by all of its query blocks. Heads are taken in groups, so that the panels
// stay below a bound whatever the sequence is.
#pragma once

#include "kernels/params.h"

namespace jenga::cpu {

inline constexpr int64_t kUnitKeys = 64;
inline constexpr int64_t kMaxQueryRows = 128;
inline constexpr int64_t kChannelAlignment = 16;  // rows of V panels and of the accumulator, in channels

// Rows of K and V that make one packed unit; rows past the end are written as zeros.
struct PackJob {
  DataType dtype;
  const void *k, *v;           // first row
  int64_t k_stride, v_stride;  // elements from row to row
  int64_t rows, head_dim;      // rows <= kUnitKeys
  float *k_unit, *v_unit;      // v_unit null: V is read where it is
};

struct KeyUnit {
  const float *k, *v;
  int64_t v_stride;   // words from one row of V to the next
  int64_t keys;       // rows that exist
  const float* bias;  // [kUnitKeys] base-2 logit bias, -inf = masked; null where nothing is masked or biased
};

struct AttendJob {
  const BlockSparseAttentionParams* params;
  int64_t batch, head, first_row, rows;  // carved query rows, all context or all video
  const KeyUnit* units;
  int64_t num_units;
  float* scratch;  // attend_scratch_floats(head_dim), 64-byte aligned
};

// Query rows, weights of a unit, accumulator, a panel of scores and the running maximum, sum and rescale of every row.
// Rows are rounded up by at most 8, vectors are at most 16 wide.
constexpr int64_t attend_scratch_floats(int64_t head_dim) {
  return (kMaxQueryRows + 8) * (head_dim + kUnitKeys + round_up(head_dim, kChannelAlignment) + 16 + 2) + 8 * kUnitKeys +
         128;
}

struct AttentionTier {
  int64_t per_word;  // 1: fp32 arithmetic, 2: bf16 pairs
  void (*pack)(const PackJob&);
  void (*attend)(const AttendJob&);
};

void run_attention(const BlockSparseAttentionParams& params, ParallelFor parallel_for, const AttentionTier& tier);

}  // namespace jenga::cpu
