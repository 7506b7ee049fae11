// select_blocks in one kernel (rule: kernels/params.h): scores in shared memory, thresholds by bisection, no sort.
//
// A thread block takes up to 16 query blocks of one head. Its warps compute 16 x 32 scores at a time on the tensor
// cores with fp32 operands split into two tf32 parts (hi hi + hi lo + lo hi), and store them as keys: unsigned integers
// in the order of the scores. Then a warp takes a query block: bisection for the largest key whose prefix satisfies the
// rule, and one pass in index order that writes the list. Masses are integers in units of 2^-31 of the largest weight,
// so that their sums are exact: the same in any order, and no prefix exceeds the whole.
//
// Limit: the scores of one query block fit in shared memory (24,000 key blocks with 99 KB, 56,000 with 227 KB);
// most_selectable_blocks says how many that are on the current device.
#include "kernels/cuda/launch.h"

namespace jenga::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kTileRows = 16;      // query blocks of one matrix instruction
constexpr int kChunkKeys = 32;     // key blocks a warp scores at a time
constexpr int kStepChannels = 16;  // two instructions of 8 channels: one float4 a thread
// Words past a multiple of 32: the rows that a quarter-warp stores to lie in different banks.
constexpr int kKeyPadding = 8;
constexpr uint32_t kFullMask = 0xFFFFFFFFu;
constexpr float kMassUnits = 2147483648.f;  // weight 1

struct SelectArguments {
  SelectBlocksParams params;
  int32_t rows_per_block;  // query blocks of a thread block: 16, 8, 4, 2 or 1
  int32_t blocks_per_head;
  int32_t key_stride;  // keys of a row in shared memory, those past num_kv_blocks are 0
  int32_t channel_steps;
};

struct Tf32Parts {
  uint32_t high, low;
};

__device__ __forceinline__ uint32_t round_to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

__device__ __forceinline__ Tf32Parts split(float x) {
  const uint32_t high = round_to_tf32(x);
  return {high, round_to_tf32(x - __uint_as_float(high))};
}

__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Larger score, larger key; -0 and +0 have one key. Finite scores have keys above 0.
__device__ __forceinline__ uint32_t key_of_score(float score) {
  const uint32_t bits = __float_as_uint(score + 0.f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float score_of_key(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

__device__ __forceinline__ uint32_t weight_of_key(uint32_t key, float max_score) {
  float weight;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(weight) : "f"((score_of_key(key) - max_score) * 1.4426950408889634f));
  return __float2uint_rn(weight * kMassUnits);
}

__device__ __forceinline__ uint64_t warp_sum(uint64_t value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kFullMask, value, step);
  return value;
}

// The operand of the matrix instruction that all warps share: softmax_scale * q_pool, in the order in which threads
// take it. Channel 16 s + 4 t + 2 i + j of a row stands in slot t + 4 j of instruction i, for queries and keys alike.
__device__ __forceinline__ void stage_queries(const SelectArguments& args, const float* q_pool, int rows,
                                              float4* fragments) {
  const int head_dim = static_cast<int>(args.params.head_dim);
  for (int i = threadIdx.x; i < args.channel_steps * 2 * 32; i += kThreads) {
    const int lane = i % 32, half = i / 32 % 2, step = i / 64;
    const int row = lane / 4 + 8 * half, channel = step * kStepChannels + lane % 4 * 4;
    float4 q = make_float4(0.f, 0.f, 0.f, 0.f);
    if (row < rows && channel < head_dim)
      q = *reinterpret_cast<const float4*>(q_pool + static_cast<int64_t>(row) * head_dim + channel);
    const float scale = args.params.softmax_scale;
    fragments[i] = make_float4(q.x * scale, q.y * scale, q.z * scale, q.w * scale);
  }
}

// Scores of 32 key blocks from `first` on, as keys into shared memory.
__device__ __forceinline__ void score_chunk(const SelectArguments& args, const float* k_pool, const float4* fragments,
                                            uint32_t* keys, int first, int lane) {
  constexpr int kTiles = kChunkKeys / 8;
  const int head_dim = static_cast<int>(args.params.head_dim);
  const int num_kv = static_cast<int>(args.params.num_kv_blocks);
  const float* source[kTiles];
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const int key_block = min(first + 8 * n + lane / 4, num_kv - 1);
    source[n] = k_pool + static_cast<int64_t>(key_block) * head_dim + lane % 4 * 4;
  }
  const int channel = lane % 4 * 4;
  float scores[kTiles][4] = {};
  float4 next[kTiles];
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
    next[n] = channel < head_dim ? *reinterpret_cast<const float4*>(source[n]) : make_float4(0.f, 0.f, 0.f, 0.f);

  for (int step = 0; step < args.channel_steps; ++step) {
    float4 k[kTiles];
    const int next_channel = (step + 1) * kStepChannels;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      k[n] = next[n];
      if (next_channel + channel < head_dim) {
        next[n] = *reinterpret_cast<const float4*>(source[n] + next_channel);
      } else {
        next[n] = make_float4(0.f, 0.f, 0.f, 0.f);
      }
    }
    const float4 top = fragments[step * 64 + lane], bottom = fragments[step * 64 + 32 + lane];
    const float q[2][4] = {{top.x, bottom.x, top.y, bottom.y}, {top.z, bottom.z, top.w, bottom.w}};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t q_high[4], q_low[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const Tf32Parts parts = split(q[i][e]);
        q_high[e] = parts.high;
        q_low[e] = parts.low;
      }
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const Tf32Parts k0 = split(i == 0 ? k[n].x : k[n].z), k1 = split(i == 0 ? k[n].y : k[n].w);
        multiply_add(scores[n], q_low, k0.high, k1.high);
        multiply_add(scores[n], q_high, k0.low, k1.low);
        multiply_add(scores[n], q_high, k0.high, k1.high);
      }
    }
  }

#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const int column = first + 8 * n + lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane / 4 + 8 * half;
      if (row >= args.rows_per_block) continue;
      uint2 pair;
      pair.x = column < num_kv ? key_of_score(scores[n][2 * half]) : 0u;
      pair.y = column + 1 < num_kv ? key_of_score(scores[n][2 * half + 1]) : 0u;
      *reinterpret_cast<uint2*>(keys + row * args.key_stride + column) = pair;
    }
  }
}

// Number and mass of the keys that are at least `threshold`.
struct Prefix {
  int count;
  uint64_t mass;
};

template <bool kWithMass>
__device__ __forceinline__ Prefix measure(const uint32_t* keys, int padded_keys, uint32_t threshold, float max_score,
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
      if constexpr (kWithMass) mass += inside ? weight_of_key(key[e], max_score) : 0u;
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
__device__ __forceinline__ Cut find_cut(const SelectArguments& args, const uint32_t* keys, int lane) {
  const int num_kv = static_cast<int>(args.params.num_kv_blocks);
  const int padded_keys = static_cast<int>(round_up(num_kv, 4));
  const int min_blocks = static_cast<int>(args.params.min_blocks < num_kv ? args.params.min_blocks : num_kv);
  constexpr Cut kEverything{0, 0};
  if (min_blocks == num_kv) return kEverything;

  uint32_t smallest = 0xFFFFFFFFu, largest = 0;
#pragma unroll 4
  for (int i = lane; i < num_kv; i += 32) {
    smallest = min(smallest, keys[i]);
    largest = max(largest, keys[i]);
  }
  smallest = __reduce_min_sync(kFullMask, smallest);
  largest = __reduce_max_sync(kFullMask, largest);
  const float max_score = score_of_key(largest);

  // {key >= low} satisfies the rule, {key >= high} does not.
  uint32_t low = smallest, high = largest + 1;
  Prefix at_low{num_kv, 0}, at_high{0, 0};
  uint64_t allowed = 0;
  if constexpr (kWithMass) {
    at_low = measure<true>(keys, padded_keys, smallest, max_score, lane);
    allowed = static_cast<uint64_t>(static_cast<double>(args.params.top_p) * static_cast<double>(at_low.mass));
    if (at_low.mass <= allowed) return kEverything;
  }
  while (high - low > 1 && at_low.count - at_high.count > 1 && (kWithMass || at_low.count != min_blocks)) {
    const uint32_t middle = low + (high - low) / 2;
    const Prefix prefix = measure<kWithMass>(keys, padded_keys, middle, max_score, lane);
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
    const uint64_t weight = weight_of_key(low, max_score);
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
  const int num_kv = static_cast<int>(args.params.num_kv_blocks);
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

__global__ void __launch_bounds__(kThreads) select_blocks_kernel(const __grid_constant__ SelectArguments args) {
  extern __shared__ __align__(16) uint8_t dynamic_shared[];
  float4* fragments = reinterpret_cast<float4*>(dynamic_shared);
  uint32_t* keys = reinterpret_cast<uint32_t*>(fragments + args.channel_steps * 64);

  const SelectBlocksParams& p = args.params;
  const int num_q = static_cast<int>(p.num_q_blocks), num_kv = static_cast<int>(p.num_kv_blocks);
  const int64_t batch_head = blockIdx.x / args.blocks_per_head;
  const int first_row = static_cast<int>(blockIdx.x % args.blocks_per_head) * args.rows_per_block;
  const int rows = min(args.rows_per_block, num_q - first_row);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  stage_queries(args, p.q_pool + (batch_head * num_q + first_row) * p.head_dim, rows, fragments);
  __syncthreads();
  const float* k_pool = p.k_pool + batch_head * num_kv * p.head_dim;
  for (int first = warp * kChunkKeys; first < num_kv; first += kWarps * kChunkKeys)
    score_chunk(args, k_pool, fragments, keys, first, lane);
  __syncthreads();

  for (int row = warp; row < rows; row += kWarps) {
    const uint32_t* row_keys = keys + row * args.key_stride;
    const Cut cut = p.top_p > 0.f ? find_cut<true>(args, row_keys, lane) : find_cut<false>(args, row_keys, lane);
    write_list(args, row_keys, cut, batch_head * num_q + first_row + row, first_row + row, lane);
  }
}

// Of the staged queries of a thread block.
int64_t fragment_bytes(int64_t head_dim) { return ceil_div(head_dim, kStepChannels) * 64 * int64_t{sizeof(float4)}; }

// What a thread block may have on the current device.
cudaError_t shared_memory(int64_t* bytes) {
  int device = 0, available = 0;
  if (cudaError_t error = cudaGetDevice(&device)) return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&available, cudaDevAttrMaxSharedMemoryPerBlockOptin, device))
    return error;
  *bytes = available;
  return cudaSuccess;
}

}  // namespace

cudaError_t most_selectable_blocks(int64_t head_dim, int64_t* most) {
  int64_t available = 0;
  if (cudaError_t error = shared_memory(&available)) return error;
  const int64_t row_bytes = available - fragment_bytes(head_dim) - kKeyPadding * int64_t{sizeof(uint32_t)};
  *most = row_bytes / (kChunkKeys * int64_t{sizeof(uint32_t)}) * kChunkKeys;
  return cudaSuccess;
}

cudaError_t select_blocks(const SelectBlocksParams& params, cudaStream_t stream) {
  if (params.head_dim % 8 != 0 || params.head_dim > kMaxHeadDim || params.min_blocks < 1) return cudaErrorNotSupported;
  SelectArguments args{params, kTileRows, 0, 0, 0};
  args.channel_steps = static_cast<int32_t>(ceil_div(params.head_dim, kStepChannels));
  const int64_t key_stride = round_up(params.num_kv_blocks, kChunkKeys) + kKeyPadding;
  const auto shared_bytes = [&](int64_t rows) {
    return fragment_bytes(params.head_dim) + rows * key_stride * int64_t{sizeof(uint32_t)};
  };

  int64_t available = 0;
  if (cudaError_t error = shared_memory(&available)) return error;
  while (args.rows_per_block > 1 && shared_bytes(args.rows_per_block) > available) args.rows_per_block /= 2;
  if (shared_bytes(args.rows_per_block) > available) return cudaErrorNotSupported;
  args.key_stride = static_cast<int32_t>(key_stride);
  args.blocks_per_head = static_cast<int32_t>(ceil_div(params.num_q_blocks, args.rows_per_block));

  const int64_t grid = params.batch * params.heads * args.blocks_per_head;
  if (grid == 0) return cudaSuccess;
  if (grid > INT32_MAX) return cudaErrorInvalidConfiguration;
  const auto bytes = static_cast<int>(shared_bytes(args.rows_per_block));
  if (cudaError_t error =
          cudaFuncSetAttribute(select_blocks_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes))
    return error;
  select_blocks_kernel<<<static_cast<unsigned>(grid), kThreads, bytes, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace jenga::cuda
