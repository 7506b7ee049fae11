// The rank of a mass is found by a radix descent: masses as 32-bit keys (the bits of what is not negative are in
// order), one byte at a time from the top, with a histogram of counts and of mass; each step keeps the one bucket in
// which the sought rank lies.
#include "kernels/cpu/selection_plan.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cpu/share.h"
#include "kernels/numeric.h"

namespace jenga::cpu {
namespace {

// What the choice of one row works on, `size` entries each.
struct Row {
  const float* masses;
  uint32_t* keys;
  int64_t size;
};

// Where a descending walk over the masses stops: all above `key`, and the first `ties` (by index) that equal it.
struct Threshold {
  uint32_t key;
  int64_t above, ties;
};

// stops(count, mass, size, weight): does a group of `size` masses, after `count` better ones of mass `mass`, hold the
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
      if (with_mass) weights[bucket] += row.masses[i];
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
  for (int64_t i = 0; i < row.size; ++i) total += row.masses[i];
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
    mass += row.masses[i];
    ++need;
  }
  return std::min(row.size, need);
}

struct Selection {
  const SelectBlocksParams& p;
  const SelectionTier& tier;
  Scratch panels;  // [B * H][coarse units, cell units][words][kUnitKeys]

  int64_t words() const { return p.head_dim / tier.per_word; }
  int64_t coarse_units() const { return ceil_div(p.num_coarse(), kUnitKeys); }
  int64_t cell_units() const { return ceil_div(p.num_k_cells(), kUnitKeys); }
  int64_t units() const { return coarse_units() + cell_units(); }
  int64_t groups() const { return ceil_div(p.num_q_blocks(), kGroupCells / p.q_cells); }
  int64_t unit_bytes() const { return words() * kUnitKeys * 4; }
  int64_t pack_bytes() const { return kUnitKeys * p.head_dim * element_size(p.dtype); }
  float* panel(int64_t head, int64_t unit) const {
    return reinterpret_cast<float*>(panels.get() + (head * units() + unit) * unit_bytes());
  }

  // Scratch of a thread, in bytes: where each part begins, and the size of all.
  struct Layout {
    int64_t q_words = 0, logits, cell_masses, block_masses, keys, bytes;
  };
  Layout layout() const {
    const int64_t row = cell_units() * kUnitKeys * 4, blocks = round_up(p.num_kv_blocks() * 4, 64);
    Layout at;
    at.logits = round_up(kGroupCells * words() * 4, 64);
    at.cell_masses = at.logits + kGroupCells * row;
    at.block_masses = at.cell_masses + row;
    at.keys = at.block_masses + kGroupCells * blocks;
    at.bytes = at.keys + blocks;
    return at;
  }

  const char* k_rows(int64_t head, int64_t cell) const {
    const int64_t row = head * p.num_k_cells() + cell;
    return static_cast<const char*>(p.k_means) + row * p.head_dim * element_size(p.dtype);
  }

  // Means of `count` coarse cells from `first` on: of their key cells, each weighing its tokens, in dtype.
  void average_cells(int64_t head, int64_t first, int64_t count, void* means) const {
    for (int64_t j = first; j < first + count; ++j) {
      const int64_t first_cell = j * p.cells_per_coarse();
      const int64_t last_cell = std::min(first_cell + p.cells_per_coarse(), p.num_k_cells());
      float sums[kMaxHeadDim] = {};
      for (int64_t c = first_cell; c < last_cell; ++c) {
        const auto tokens = static_cast<float>(c + 1 == p.num_k_cells() ? p.last_k_cell() : p.k_cell_size());
        const char* const row = k_rows(head, c);
        for (int64_t d = 0; d < p.head_dim; ++d) sums[d] += tokens * load_element(row, d, p.dtype);
      }
      const auto tokens = static_cast<float>(j + 1 == p.num_coarse() ? p.last_coarse() : p.coarse_size());
      for (int64_t d = 0; d < p.head_dim; ++d) {
        store_element(means, (j - first) * p.head_dim + d, p.dtype, sums[d] / tokens);
      }
    }
  }

  void pack(int64_t index, std::byte* scratch) const {
    const int64_t head = index / units(), unit = index % units();
    const bool is_coarse = unit < coarse_units();
    const int64_t first = (is_coarse ? unit : unit - coarse_units()) * kUnitKeys;
    const int64_t rows = std::min(kUnitKeys, (is_coarse ? p.num_coarse() : p.num_k_cells()) - first);
    if (is_coarse) average_cells(head, first, rows, scratch);
    tier.pack({.dtype = p.dtype,
               .k = is_coarse ? static_cast<const void*>(scratch) : k_rows(head, first),
               .v = nullptr,
               .k_stride = p.head_dim,
               .v_stride = 0,
               .rows = rows,
               .head_dim = p.head_dim,
               .k_unit = panel(head, unit),
               .v_unit = nullptr});
  }

  static float log2_share(int64_t part, int64_t whole) {
    return std::log2(static_cast<float>(part) / static_cast<float>(whole));
  }

  // The query blocks of one group, one list after the other.
  void run_group(int64_t index, std::byte* scratch) const {
    const int64_t head = index / groups(), blocks = kGroupCells / p.q_cells, first_block = index % groups() * blocks;
    const int64_t q_cells = p.num_q_cells(), first = first_block * p.q_cells;
    const int64_t count = std::min(blocks * p.q_cells, q_cells - first);
    float weights[kGroupCells] = {};
    for (int64_t r = 0; r < count; ++r) {
      weights[r] = static_cast<float>(first + r + 1 == q_cells ? p.last_q_cell() : p.q_cell_size());
    }
    const Layout at = layout();
    const auto part = [&](int64_t offset) { return reinterpret_cast<float*>(scratch + offset); };
    float* const block_masses = part(at.block_masses);
    const auto* q = static_cast<const char*>(p.q_means) + (head * q_cells + first) * p.head_dim * element_size(p.dtype);
    tier.pack_queries(p, q, count, part(at.q_words));
    tier.masses({.q_words = part(at.q_words),
                 .weights = weights,
                 .coarse = {panel(head, 0), p.num_coarse(), log2_share(p.last_coarse(), p.coarse_size())},
                 .cells = {panel(head, coarse_units()), p.num_k_cells(), log2_share(p.last_k_cell(), p.k_cell_size())},
                 .num_kv_blocks = p.num_kv_blocks(),
                 .words = words(),
                 .q_cells = p.q_cells,
                 .k_cells = p.k_cells,
                 .scale = p.softmax_scale * 1.44269504088896340736f,
                 .logits = part(at.logits),
                 .cell_masses = part(at.cell_masses),
                 .block_masses = block_masses});
    for (int64_t i = 0; i < blocks && first_block + i < p.num_q_blocks(); ++i) {
      const Row row{block_masses + i * p.num_kv_blocks(), reinterpret_cast<uint32_t*>(scratch + at.keys),
                    p.num_kv_blocks()};
      list_blocks(row, head * p.num_q_blocks() + first_block + i);
    }
  }

  void list_blocks(const Row& row, int64_t index) const {
    const int64_t size = p.num_kv_blocks();
    for (int64_t j = 0; j < size; ++j) row.keys[j] = std::bit_cast<uint32_t>(row.masses[j]);
    int64_t need = p.min_blocks;
    if (p.top_p > 0) need = std::max(need, count_for_mass(row, p.top_p));
    need = std::min(std::max<int64_t>(need, 1), size);
    Threshold t = descend(row, false,
                          [&](int64_t above, double, int64_t in_bucket, double) { return above + in_bucket >= need; });
    t.ties = need - t.above;

    const uint8_t* forced = p.adjacency ? p.adjacency + index % p.num_q_blocks() * size : nullptr;
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
  Selection selection{params, tier, nullptr};
  const int64_t heads = params.batch * params.heads, units = heads * selection.units();
  selection.panels = make_scratch(units * selection.unit_bytes());
  share(parallel_for, units, selection.pack_bytes(),
        [&](std::byte* scratch, int64_t i) { selection.pack(i, scratch); });
  share(parallel_for, heads * selection.groups(), selection.layout().bytes,
        [&](std::byte* scratch, int64_t i) { selection.run_group(i, scratch); });
}

}  // namespace jenga::cpu
