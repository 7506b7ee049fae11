// The rank of a score is found by a radix descent: scores as ordered 32-bit keys, one byte at a time from the top, with
// a histogram of counts and of mass; each step keeps the one bucket in which the sought rank lies.
#include "kernels/cpu/selection_plan.h"

#include <algorithm>
#include <bit>

#include "kernels/cpu/share.h"

namespace jenga::cpu {
namespace {

// Larger scores have larger keys; -0 counts as 0.
uint32_t ordered_key(float score) {
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// What the choice of one row works on, `size` entries each.
struct Row {
  float *scores, *weights;
  uint32_t* keys;
  int64_t size;
};

// Where a descending walk over the scores stops: all scores above `key`, and the first `ties` (by index) that equal it.
struct Threshold {
  uint32_t key;
  int64_t above, ties;
};

// stops(count, mass, size, weight): does a group of `size` scores, after `count` better ones of mass `mass`, hold the
// last one to keep? weight is the group's mass.
template <typename Stops>
Threshold descend(const Row& row, bool with_mass, Stops stops) {
  uint32_t prefix = 0, prefix_mask = 0;
  int64_t above = 0;
  double mass = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    int64_t sizes[256] = {};
    double weights[256] = {};
    for (int64_t i = 0; i < row.size; ++i) {
      if ((row.keys[i] & prefix_mask) != prefix) continue;
      const uint32_t bucket = (row.keys[i] >> shift) & 255u;
      ++sizes[bucket];
      if (with_mass) weights[bucket] += row.weights[i];
    }
    int bucket = 255, last_filled = -1;
    for (; bucket >= 0; --bucket) {
      if (sizes[bucket] == 0) continue;
      if (last_filled >= 0) {
        above += sizes[last_filled];
        mass += weights[last_filled];
      }
      last_filled = bucket;
      if (stops(above, mass, sizes[bucket], weights[bucket])) break;
    }
    prefix |= static_cast<uint32_t>(last_filled) << shift;
    prefix_mask |= 255u << shift;
    if (shift == 0) return {prefix, above, sizes[last_filled]};
  }
  return {};
}

// The length of the smallest prefix whose mass exceeds top_p.
int64_t count_for_mass(const Row& row, float top_p) {
  if (top_p >= 1.0f) return row.size;
  double total = 0;
  for (int64_t i = 0; i < row.size; ++i) total += row.weights[i];
  const double wanted = top_p * total;
  double mass_above = 0;
  const Threshold t = descend(row, true, [&](int64_t, double mass, int64_t, double weight) {
    mass_above = mass;
    return mass + weight > wanted;
  });
  double mass = mass_above;
  int64_t need = t.above;
  for (int64_t i = 0; i < row.size && mass <= wanted; ++i) {
    if (row.keys[i] != t.key) continue;
    mass += row.weights[i];
    ++need;
  }
  return std::min(row.size, need);
}

struct Selection {
  const SelectBlocksParams& p;
  const SelectionTier& tier;

  void run_row(const Row& row, int64_t index) const {
    const int64_t head = index / p.num_q_blocks, size = p.num_kv_blocks;
    tier.score(p.q_pool + index * p.head_dim, p.k_pool + head * size * p.head_dim, size, p.head_dim, p.softmax_scale,
               row.scores);
    for (int64_t j = 0; j < size; ++j) row.keys[j] = ordered_key(row.scores[j]);
    int64_t need = p.min_blocks;
    if (p.top_p > 0) {
      tier.weigh(row.scores, size, row.weights);
      need = std::max(need, count_for_mass(row, p.top_p));
    }
    need = std::min(std::max<int64_t>(need, 1), size);
    Threshold t = descend(row, false,
                          [&](int64_t above, double, int64_t in_bucket, double) { return above + in_bucket >= need; });
    t.ties = need - t.above;

    const uint8_t* forced = p.adjacency ? p.adjacency + index % p.num_q_blocks * size : nullptr;
    int32_t* out = p.kv_block_index + index * p.max_kv;
    int64_t count = 0;
    for (int64_t j = 0; j < size; ++j) {
      bool keep = row.keys[j] > t.key || (forced && forced[j]);
      if (row.keys[j] == t.key && t.ties > 0) {
        --t.ties;
        keep = true;
      }
      if (keep) out[count++] = static_cast<int32_t>(j);
    }
    std::fill(out + count, out + p.max_kv, -1);
    p.kv_block_count[index] = static_cast<int32_t>(count);
  }
};

}  // namespace

void run_selection(const SelectBlocksParams& params, ParallelFor parallel_for, const SelectionTier& tier) {
  const Selection selection{params, tier};
  const int64_t size = params.num_kv_blocks, row_bytes = round_up(size * 4, 64);
  share(parallel_for, params.batch * params.heads * params.num_q_blocks, 3 * row_bytes,
        [&](std::byte* scratch, int64_t index) {
          selection.run_row({.scores = reinterpret_cast<float*>(scratch),
                             .weights = reinterpret_cast<float*>(scratch + row_bytes),
                             .keys = reinterpret_cast<uint32_t*>(scratch + 2 * row_bytes),
                             .size = size},
                            index);
        });
}

}  // namespace jenga::cpu
