// select_blocks (rule: kernels/params.h): masses of all pairs of blocks (score_cells.cu), then thresholds by bisection,
// no sort.
//
// A warp takes a query block, whose masses it holds in shared memory as keys: unsigned integers in the order of the
// masses. Bisection for the largest key whose prefix satisfies the rule, and one pass in index order that writes the
// list. Prefixes are weighed in integers, in units of 2^-31 of the largest mass, so that their sums are exact: the same
// in any order, and no prefix exceeds the whole.
//
// Limit: the masses of one query block fit in shared memory (25,000 key blocks with 99 KB, 57,000 with 227 KB);
// most_selectable_blocks says how many that are on the current device.
#include "kernels/cuda/common/select_blocks.h"
#include "kernels/cuda/common/warp_sum.h"

namespace jenga::cuda {
namespace {

constexpr uint32_t kFullMask = 0xFFFFFFFFu;
constexpr float kMassUnits = 2147483648.f;  // of the largest mass

// The least and the largest key of a row.
struct KeyRange {
  uint32_t smallest, largest;
};

// Larger mass, larger key, and none of a mass is 0: the bits of a number that is not negative are in its order.
__device__ __forceinline__ uint32_t key_of_mass(float mass) { return __float_as_uint(mass) + 1; }
__device__ __forceinline__ float mass_of_key(uint32_t key) { return __uint_as_float(key - 1); }

// units: kMassUnits over the largest mass.
__device__ __forceinline__ uint32_t weight_of_key(uint32_t key, float units) {
  return __float2uint_rn(mass_of_key(key) * units);
}

// The keys of a row into shared memory.
__device__ __forceinline__ KeyRange load_keys(const SelectArguments& args, int64_t row, uint32_t* keys, int lane) {
  const float* const masses = args.masses + row * args.padded;
  KeyRange range{0xFFFFFFFFu, 0};
#pragma unroll 4
  for (int i = lane * 4; i < args.padded; i += 128) {
    const float4 four = *reinterpret_cast<const float4*>(masses + i);
    const float mass[4] = {four.x, four.y, four.z, four.w};
    uint32_t key[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const bool exists = i + e < args.num_kv;
      key[e] = exists ? key_of_mass(mass[e]) : 0u;
      range.smallest = exists ? min(range.smallest, key[e]) : range.smallest;
      range.largest = max(range.largest, key[e]);
    }
    *reinterpret_cast<uint4*>(keys + i) = make_uint4(key[0], key[1], key[2], key[3]);
  }
  __syncwarp();
  return {__reduce_min_sync(kFullMask, range.smallest), __reduce_max_sync(kFullMask, range.largest)};
}

// Number and mass of the keys that are at least `threshold`.
struct Prefix {
  int count;
  uint64_t mass;
};

template <bool kWithMass>
__device__ __forceinline__ Prefix measure(const uint32_t* keys, int padded_keys, uint32_t threshold, float units,
                                          int lane) {
  int count = 0;
  uint64_t mass = 0;
#pragma unroll 4
  for (int i = lane * 4; i < padded_keys; i += 128) {
    const uint4 four = *reinterpret_cast<const uint4*>(keys + i);
    const uint32_t key[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const bool inside = key[e] >= threshold;
      count += inside;
      if constexpr (kWithMass) mass += inside ? weight_of_key(key[e], units) : 0u;
    }
  }
  Prefix prefix{__reduce_add_sync(kFullMask, count), 0};
  if constexpr (kWithMass) prefix.mass = warp_sum(mass);
  return prefix;
}

// Kept are all keys above `above`, and of those equal to it the first `ties`.
struct Cut {
  uint32_t above;
  int ties;
};

// Bisection for the largest key T at which {key >= T} is long enough and, with top_p, heavier than top_p.
template <bool kWithMass>
__device__ __forceinline__ Cut find_cut(const SelectArguments& args, const uint32_t* keys, KeyRange range, int lane) {
  const int num_kv = args.num_kv, padded_keys = args.padded;
  const int min_blocks = static_cast<int>(args.params.min_blocks < num_kv ? args.params.min_blocks : num_kv);
  constexpr Cut kEverything{0, 0};
  if (min_blocks == num_kv) return kEverything;

  const auto [smallest, largest] = range;
  const float units = kMassUnits / mass_of_key(largest);

  // {key >= low} satisfies the rule, {key >= high} does not.
  uint32_t low = smallest, high = largest + 1;
  Prefix at_low{num_kv, 0}, at_high{0, 0};
  uint64_t allowed = 0;
  if constexpr (kWithMass) {
    at_low = measure<true>(keys, padded_keys, smallest, units, lane);
    allowed = static_cast<uint64_t>(static_cast<double>(args.params.top_p) * static_cast<double>(at_low.mass));
    if (at_low.mass <= allowed) return kEverything;
  }
  while (high - low > 1 && at_low.count - at_high.count > 1 && (kWithMass || at_low.count != min_blocks)) {
    const uint32_t middle = low + (high - low) / 2;
    const Prefix prefix = measure<kWithMass>(keys, padded_keys, middle, units, lane);
    if (prefix.count >= min_blocks && (!kWithMass || prefix.mass > allowed)) {
      low = middle;
      at_low = prefix;
    } else {
      high = middle;
      at_high = prefix;
    }
  }
  const int ties = at_low.count - at_high.count;
  if (ties == 1 || high - low > 1) return {low - 1, 0};

  int needed = min_blocks;
  if (kWithMass && at_high.mass <= allowed) {
    const uint64_t weight = weight_of_key(low, units);
    const uint64_t fitting = weight > 0 ? (allowed - at_high.mass) / weight : num_kv;
    const int with_mass =
        fitting < static_cast<uint64_t>(ties) ? at_high.count + 1 + static_cast<int>(fitting) : at_low.count;
    needed = max(needed, with_mass);
  }
  return {low, min(needed - at_high.count, ties)};
}

// The list of one query block, ascending, and -1 behind it.
__device__ __forceinline__ void write_list(const SelectArguments& args, const uint32_t* keys, Cut cut, int64_t row,
                                           int query_block, int lane) {
  const int num_kv = args.num_kv;
  const int max_kv = static_cast<int>(args.params.max_kv);
  int32_t* list = args.params.kv_block_index + row * max_kv;
  const uint8_t* forced =
      args.params.adjacency == nullptr ? nullptr : args.params.adjacency + int64_t{query_block} * num_kv;
  const uint32_t lower_lanes = (1u << lane) - 1u;
  int count = 0, ties_seen = 0;
#pragma unroll 4
  for (int first = 0; first < num_kv; first += 32) {
    const int block = first + lane;
    const uint32_t key = block < num_kv ? keys[block] : 0u;
    const bool is_forced = forced != nullptr && block < num_kv && forced[block] != 0;
    const uint32_t tied = __ballot_sync(kFullMask, key == cut.above && block < num_kv);
    const bool wins_tie = key == cut.above && ties_seen + __popc(tied & lower_lanes) < cut.ties;
    const bool keep = block < num_kv && (key > cut.above || wins_tie || is_forced);
    const uint32_t kept = __ballot_sync(kFullMask, keep);
    const int position = count + __popc(kept & lower_lanes);
    if (keep && position < max_kv) list[position] = block;
    count += __popc(kept);
    ties_seen += __popc(tied);
  }
  count = min(count, max_kv);
  for (int i = count + lane; i < max_kv; i += 32) list[i] = -1;
  if (lane == 0) args.params.kv_block_count[row] = count;
}

__device__ __forceinline__ void select_blocks(const SelectArguments& args) {
  extern __shared__ __align__(16) uint8_t dynamic_shared[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t row = int64_t{blockIdx.x} * args.rows + warp;
  if (row >= args.lists) return;
  uint32_t* const keys = reinterpret_cast<uint32_t*>(dynamic_shared) + warp * args.padded;
  const KeyRange range = load_keys(args, row, keys, lane);
  const Cut cut =
      args.params.top_p > 0.f ? find_cut<true>(args, keys, range, lane) : find_cut<false>(args, keys, range, lane);
  write_list(args, keys, cut, row, static_cast<int>(row % args.num_q), lane);
}

}  // namespace

JENGA_DEFINE_KERNEL(jenga_select_blocks, SelectArguments, (kMostRows * 32), select_blocks)

}  // namespace jenga::cuda
