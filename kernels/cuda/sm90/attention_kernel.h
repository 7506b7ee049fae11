// block_sparse_attention for sm_90a, one persistent thread block per multiprocessor (formula: kernels/params.h).
//
// Warp 0 is the producer: it walks a tile's stages and keeps rings of K and V stages filled by the copy engine, K one
// stage ahead of V, and writes the bias of the stages that have one. Warps 1 to 3 prepare the next tile: draw its
// ticket, mark its kept blocks, gather its queries as soon as a warpgroup is done with its old ones. Warpgroups 1 and 2
// compute 64 query rows each: QK[i + 1] is issued before PV[i], and the two take turns, so that one's softmax runs
// under the other's products.
//
// Every ring slot has a full and an empty barrier. Where ordinary loads and stores hand data over, every thread that
// read or wrote arrives; where the copy engine and the products do, one thread arrives for its warp.
#pragma once

#include "kernels/cuda/common/epilogue.h"
#include "kernels/cuda/sm90/arguments.h"
#include "kernels/cuda/sm90/mbarrier.h"
#include "kernels/cuda/sm90/softmax.h"
#include "kernels/cuda/sm90/tile_plan.h"
#include "kernels/cuda/sm90/tma.h"
#include "kernels/cuda/sm90/wgmma.h"

namespace jenga::cuda::sm90 {

inline constexpr int kPlanSlots = 2;
inline constexpr int kBiasStages = 2;
inline constexpr int kConsumerGroups = 2;
inline constexpr int kConsumerThreads = 256;
inline constexpr int kConsumerWarps = 8;
inline constexpr int kGroupRows = 64;
inline constexpr int kPlannerThreads = 96;
inline constexpr int kAttentionThreads = 384;
inline constexpr int kPanelBytes = kStageRows * kPanelRowBytes;
// 56 * 128 + 224 * 256 registers fill the register file; the kernel starts with 168 for every thread.
inline constexpr int kProducerRegisters = 56;
inline constexpr int kConsumerRegisters = 224;
// The next ticket is drawn this many stages before the producer is done with a tile: late, so that no block sits on a
// tile that another could start, but early enough for the queries to arrive in time.
inline constexpr int kPlanLead = 3;

// Named barriers (0 is __syncthreads): the planners' own, then one per consumer warpgroup for taking turns.
inline constexpr int kPlannerBarrier = 1;
inline constexpr int kTurnBarrier = 2;

__device__ __forceinline__ void named_barrier_sync(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Tells the compiler that all threads of a warp hold the same value, so that what depends on it stays in uniform
// registers, where the products want their descriptors.
__device__ __forceinline__ int warp_uniform(int value) { return __shfl_sync(0xFFFFFFFFu, value, 0); }

template <int kHeadDim>
struct SharedStorage {
  static constexpr int kPanels = kHeadDim / kPanelChannels;
  static constexpr int kTileBytes = kPanels * kPanelBytes;
  // As many as fit. A V slot comes back later than a K slot (after the softmax under which its product ran), so V has
  // the odd one.
  static constexpr int kKeyStages = kHeadDim == 64 ? 4 : 2;
  static constexpr int kValueStages = kHeadDim == 64 ? 4 : 3;
  uint8_t q[kTileBytes];
  uint8_t k[kKeyStages][kTileBytes];
  uint8_t v[kValueStages][kTileBytes];
  float bias[kBiasStages][kStageRows];
  TilePlan plan[kPlanSlots];
  Barrier plan_wanted, plan_full[kPlanSlots], plan_empty[kPlanSlots];
  Barrier q_full[kConsumerGroups], q_empty[kConsumerGroups];  // each group's own rows
  Barrier k_full[kKeyStages], k_empty[kKeyStages];
  Barrier v_full[kValueStages], v_empty[kValueStages];
  Barrier bias_full[kBiasStages], bias_empty[kBiasStages];
};

// Position in a ring over all tiles.
template <int kSlots>
struct RingPosition {
  int slot = 0;
  uint32_t full_parity = 0;
  // A slot's first use passes at once: a fresh barrier counts as having completed a phase of parity 1.
  __device__ uint32_t empty_parity() const { return full_parity ^ 1; }
  __device__ void advance() {
    if (++slot == kSlots) {
      slot = 0;
      full_parity ^= 1;
    }
  }
};

// Reads a tile's list in windows of 32 entries, one a lane. Context tiles take every block.
struct ListReader {
  const int32_t* list;
  int count;
  bool everything;
  int window = -1;
  int32_t entries = 0;

  // The whole warp calls this together; entries past the end give -1.
  __device__ __forceinline__ int at(int position, int lane) {
    if (position >= count) return -1;
    if (everything) return position;
    if (position / 32 != window) {
      window = position / 32;
      const int mine = window * 32 + lane;
      entries = mine < count ? list[mine] : -1;
    }
    return __shfl_sync(0xFFFFFFFFu, entries, position % 32);
  }
};

// A stage's source rows, one per box of 64; a box that starts at num_rows arrives as zeros.
struct StageSource {
  bool is_tail;
  int row[2];
};

__device__ __forceinline__ StageSource video_stage(const AttentionArguments& args, ListReader& reader, int stage,
                                                   int lane) {
  const int first_row = args.context_tiles * kTileRows;
  StageSource source;
  source.is_tail = false;
  if (args.params.kv_block_size == kStageRows) {
    source.row[0] = first_row + reader.at(stage, lane) * kStageRows;
    source.row[1] = source.row[0] + kBoxRows;
  } else {
    source.row[0] = first_row + reader.at(2 * stage, lane) * kBoxRows;
    const int second = reader.at(2 * stage + 1, lane);
    source.row[1] = first_row + (second < 0 ? static_cast<int>(args.params.num_video) : second * kBoxRows);
  }
  return source;
}

// Bias of key `column` of a stage in units of the raw scores, -inf where the key is not attended.
__device__ __forceinline__ float key_bias(const AttentionArguments& args, const TilePlan& plan,
                                          const StageSource& source, int stage, int column) {
  const BlockSparseAttentionParams& params = args.params;
  if (source.is_tail) {
    const int cell = source.row[0] + column;
    if (cell >= args.num_tail_cells) return -INFINITY;
    const int block = cell >> args.block_cells_log2;
    if (plan.kept[block / 32] >> (block % 32) & 1) return -INFINITY;
    return cell == args.num_tail_cells - 1 ? args.last_cell_bias : args.cell_bias;
  }
  const int row = (column < kBoxRows ? source.row[0] : source.row[1]) + column % kBoxRows;
  if (stage < args.context_tiles) {
    if (row >= params.num_context) return -INFINITY;
    if (params.context_bias == nullptr) return 0.f;
    const float bias = params.context_bias[static_cast<int64_t>(plan.batch) * args.context_tiles * kTileRows + row];
    if (bias == -INFINITY) return bias;
    return plan.is_context ? 0.f : bias * args.inverse_scale;
  }
  return row < args.context_tiles * kTileRows + params.num_video ? 0.f : -INFINITY;
}

template <int kHeadDim>
__device__ __forceinline__ void load_stage(void* shared, const CUtensorMap* map, Barrier* barrier,
                                           const StageSource& source, int head, int batch) {
#pragma unroll
  for (int panel = 0; panel < kHeadDim / kPanelChannels; ++panel) {
#pragma unroll
    for (int box = 0; box < 2; ++box) {
      tma_load(static_cast<uint8_t*>(shared) + panel * kPanelBytes + box * kBoxRows * kPanelRowBytes, map, barrier,
               panel * kPanelChannels, source.row[box], head, batch);
    }
  }
}

template <int kHeadDim>
__device__ __forceinline__ void produce(const AttentionArguments& args, SharedStorage<kHeadDim>& shared, int lane) {
  using Shared = SharedStorage<kHeadDim>;
  RingPosition<kPlanSlots> tile;
  RingPosition<Shared::kKeyStages> k_ring;
  RingPosition<Shared::kValueStages> v_ring;
  RingPosition<kBiasStages> bias_ring;
  for (;; tile.advance()) {
    barrier_wait(&shared.plan_full[tile.slot], tile.full_parity);
    const TilePlan& plan = shared.plan[tile.slot];
    if (plan.batch < 0) return;
    const int batch = plan.batch, head = plan.head;
    const int num_stages = plan.num_stages(), biased_stages = plan.biased_stages;
    const bool has_partial_stage = plan.has_partial_stage;
    uint64_t tail_stages = plan.tail_stages;
    ListReader reader{list_of(args, plan), plan.count, plan.is_context != 0};
    StageSource previous{};
    for (int stage = 0; stage <= num_stages; ++stage) {
      StageSource source{};
      if (stage < num_stages) {
        if (stage < args.context_tiles) {
          source.row[0] = stage * kStageRows;
          source.row[1] = source.row[0] + kBoxRows;
        } else if (tail_stages != 0) {
          source.is_tail = true;
          source.row[0] = (__ffsll(tail_stages) - 1) * kStageRows;
          source.row[1] = source.row[0] + kBoxRows;
          tail_stages &= tail_stages - 1;
        } else {
          const bool partial = has_partial_stage && stage < biased_stages;
          source = video_stage(args, reader, partial ? plan.video_stages - 1 : stage - biased_stages, lane);
        }
        Barrier* full = &shared.k_full[k_ring.slot];
        barrier_wait(&shared.k_empty[k_ring.slot], k_ring.empty_parity());
        if (lane == 0) {
          barrier_arrive_expect_bytes(full, Shared::kTileBytes);
          load_stage<kHeadDim>(shared.k[k_ring.slot], source.is_tail ? &args.k_tail_map : &args.k_map, full, source,
                               head, batch);
        }
        k_ring.advance();
        if (stage < biased_stages) {
          barrier_wait(&shared.bias_empty[bias_ring.slot], bias_ring.empty_parity());
          for (int column = lane; column < kStageRows; column += 32)
            shared.bias[bias_ring.slot][column] = key_bias(args, plan, source, stage, column);
          barrier_arrive(&shared.bias_full[bias_ring.slot]);
          bias_ring.advance();
        }
      }
      if (stage > 0) {
        Barrier* full = &shared.v_full[v_ring.slot];
        barrier_wait(&shared.v_empty[v_ring.slot], v_ring.empty_parity());
        if (lane == 0) {
          barrier_arrive_expect_bytes(full, Shared::kTileBytes);
          load_stage<kHeadDim>(shared.v[v_ring.slot], previous.is_tail ? &args.v_tail_map : &args.v_map, full, previous,
                               head, batch);
        }
        v_ring.advance();
      }
      previous = source;
      // The planners come back to this plan's slot only when the next tile asks for another plan in its turn.
      if (stage == max(num_stages - kPlanLead, 0)) barrier_arrive(&shared.plan_wanted);
    }
  }
}

__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}

// The query rows of one consumer group.
template <class T, int kHeadDim>
__device__ __forceinline__ void gather_queries(const AttentionArguments& args, const TilePlan& plan, uint8_t* shared_q,
                                               int group, int thread) {
  constexpr int kChunks = kHeadDim / 8;  // of 16 bytes, per row
  const BlockSparseAttentionParams& params = args.params;
  const T* q =
      static_cast<const T*>(params.q) + plan.batch * params.q_strides.batch + plan.head * params.q_strides.head;
  for (int index = thread; index < kGroupRows * kChunks; index += kPlannerThreads) {
    const int row = group * kGroupRows + index / kChunks, chunk = index % kChunks;
    const int64_t token = plan.token[row];
    const T* source = token < 0 ? q : q + token * params.q_strides.token + chunk * 8;
    uint8_t* target = shared_q + chunk / 8 * kPanelBytes + row * kPanelRowBytes + ((chunk % 8) ^ (row % 8)) * 16;
    copy_async_16(target, source, token >= 0);
  }
}

// All planner threads. Fills everything but the ticket's own fields.
__device__ __forceinline__ void complete_plan(const AttentionArguments& args, TilePlan& plan, int thread) {
  const int64_t limit = plan.is_context ? args.params.num_context : args.params.num_video;
  const int32_t* token_index = args.params.token_index + (plan.is_context ? 0 : args.params.num_context);
  for (int row = thread; row < kTileRows; row += kPlannerThreads) {
    const int64_t position = plan.first_row + row;
    plan.token[row] = position < limit ? token_index[position] : -1;
  }
  const bool has_tail = args.num_tail_cells > 0 && plan.count < args.num_kv_blocks;
  if (has_tail) {
    for (int word = thread; word * 32 < args.num_kv_blocks; word += kPlannerThreads) plan.kept[word] = 0;
    named_barrier_sync(kPlannerBarrier, kPlannerThreads);
    const int32_t* list = list_of(args, plan);
    for (int position = thread; position < plan.count; position += kPlannerThreads) {
      const int block = list[position];
      atomicOr(&plan.kept[block / 32], 1u << (block % 32));
    }
    named_barrier_sync(kPlannerBarrier, kPlannerThreads);
  }
  if (thread >= 32) return;
  uint64_t tail_stages = 0;
  if (has_tail) {
    const uint32_t low = __ballot_sync(0xFFFFFFFFu, tail_stage_needed(args, plan, thread));
    const uint32_t high = __ballot_sync(0xFFFFFFFFu, tail_stage_needed(args, plan, thread + 32));
    tail_stages = static_cast<uint64_t>(high) << 32 | low;
  }
  if (thread == 0) {
    count_video_stages(args, plan);
    plan.tail_stages = tail_stages;
    plan.biased_stages = args.context_tiles + __popcll(tail_stages) + plan.has_partial_stage;
  }
}

template <class T, int kHeadDim>
__device__ __forceinline__ void plan_tiles(const AttentionArguments& args, SharedStorage<kHeadDim>& shared,
                                           int thread) {
  RingPosition<kPlanSlots> tile;
  RingPosition<1> queries;
  for (;; tile.advance(), queries.advance()) {
    TilePlan& plan = shared.plan[tile.slot];
    barrier_wait(&shared.plan_wanted, queries.empty_parity());  // the first is wanted from the start
    barrier_wait(&shared.plan_empty[tile.slot], tile.empty_parity());
    if (thread == 0) locate_tile(args, atomicAdd(args.next_ticket, 1), plan);
    named_barrier_sync(kPlannerBarrier, kPlannerThreads);
    const bool done = plan.batch < 0;
    if (!done) complete_plan(args, plan, thread);
    barrier_arrive(&shared.plan_full[tile.slot]);
    if (done) return;
    named_barrier_sync(kPlannerBarrier, kPlannerThreads);  // for the tokens
    for (int group = 0; group < kConsumerGroups; ++group) {
      barrier_wait(&shared.q_empty[group], queries.empty_parity());
      gather_queries<T, kHeadDim>(args, plan, shared.q, group, thread);
      // The products read the queries through the async proxy: each writer fences its own copies, then arrives.
      asm volatile("cp.async.wait_all;\nfence.proxy.async.shared::cta;" ::: "memory");
      barrier_arrive(&shared.q_full[group]);
    }
  }
}

template <class T, int kHeadDim>
__device__ __forceinline__ void issue_scores(float (&scores)[64], const uint8_t* q, const uint8_t* k) {
  const uint64_t q_base = panel_descriptor(q, 0), k_base = panel_descriptor(k, 0);
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
    const uint64_t offset = descriptor_step(step / 4 * kPanelBytes + step % 4 * 32);  // 16 channels are 32 bytes
    wgmma_scores<T>(scores, q_base + offset, k_base + offset, step);
  }
  wgmma_commit();
}

template <class T, int kHeadDim>
__device__ __forceinline__ void issue_outputs(float (&outputs)[kHeadDim / 2], const uint32_t (&probabilities)[32],
                                              const uint8_t* v) {
  const uint64_t v_base = panel_descriptor(v, kPanelBytes);
#pragma unroll
  for (int step = 0; step < kStageRows / 16; ++step)
    wgmma_outputs<T>(outputs, probabilities + 4 * step, v_base + descriptor_step(step * 16 * kPanelRowBytes));
  wgmma_commit();
}

template <class T>
__device__ __forceinline__ void pack_probabilities(uint32_t (&packed)[32], const float (&scores)[64]) {
#pragma unroll
  for (int i = 0; i < 32; ++i) packed[i] = pack_pair<T>(scores[2 * i], scores[2 * i + 1]);
}

// For slots that only products read: a warp's wait for its quarter of a product holds for all its threads.
__device__ __forceinline__ void release(Barrier* empty, int lane) {
  if (lane == 0) barrier_arrive(empty);
}

template <class T, int kHeadDim>
__device__ __forceinline__ void consume(const AttentionArguments& args, SharedStorage<kHeadDim>& shared, int group,
                                        int thread) {
  const int lane = thread % 32;
  const int first_row = kGroupRows * group + 16 * (thread / 32);
  const uint8_t* q = shared.q + kGroupRows * group * kPanelRowBytes;
  const float scale_log2 = args.params.softmax_scale * 1.44269504088896340736f;
  RingPosition<kPlanSlots> tile;
  RingPosition<1> queries;
  RingPosition<SharedStorage<kHeadDim>::kKeyStages> k_ring;
  RingPosition<SharedStorage<kHeadDim>::kValueStages> v_ring;
  RingPosition<kBiasStages> bias_ring;
  auto apply_bias = [&](float(&scores)[64]) {
    barrier_wait(&shared.bias_full[bias_ring.slot], bias_ring.full_parity);
    add_bias(scores, shared.bias[bias_ring.slot], lane);
    barrier_arrive(&shared.bias_empty[bias_ring.slot]);
    bias_ring.advance();
  };
  if (group == 1) named_barrier_arrive(kTurnBarrier, kConsumerThreads);  // group 0 goes first
  for (;; tile.advance(), queries.advance()) {
    barrier_wait(&shared.plan_full[tile.slot], tile.full_parity);
    const TilePlan& plan = shared.plan[tile.slot];
    const int batch = plan.batch, head = plan.head;
    if (batch < 0) return;
    const int num_stages = warp_uniform(plan.num_stages()), biased_stages = warp_uniform(plan.biased_stages);
    const int32_t tokens[2] = {plan.token[first_row + lane / 4], plan.token[first_row + lane / 4 + 8]};
    barrier_arrive(&shared.plan_empty[tile.slot]);

    float scores[64];
    float outputs[kHeadDim / 2];
    uint32_t probabilities[32];
    RowState state;
    float rescale[2];
#pragma unroll
    for (float& value : outputs) value = 0.f;

    barrier_wait(&shared.q_full[group], queries.full_parity);
    if (num_stages > 0) {
      barrier_wait(&shared.k_full[k_ring.slot], k_ring.full_parity);
      wgmma_fence();
      issue_scores<T, kHeadDim>(scores, q, shared.k[k_ring.slot]);
      wgmma_wait<0>();
      pin_registers(scores);
      release(&shared.k_empty[k_ring.slot], lane);
      k_ring.advance();
      if (biased_stages > 0) apply_bias(scores);
      update_softmax(scores, state, rescale, scale_log2);
      pack_probabilities<T>(probabilities, scores);
      if (num_stages > 1) barrier_wait(&shared.k_full[k_ring.slot], k_ring.full_parity);
    }
    for (int stage = 1; stage < num_stages; ++stage) {
      named_barrier_sync(kTurnBarrier + group, kConsumerThreads);
      wgmma_fence();
      issue_scores<T, kHeadDim>(scores, q, shared.k[k_ring.slot]);
      barrier_wait(&shared.v_full[v_ring.slot], v_ring.full_parity);
      wgmma_fence();
      issue_outputs<T, kHeadDim>(outputs, probabilities, shared.v[v_ring.slot]);
      named_barrier_arrive(kTurnBarrier + (group ^ 1), kConsumerThreads);
      wgmma_wait<1>();
      pin_registers(scores);
      release(&shared.k_empty[k_ring.slot], lane);
      k_ring.advance();
      if (stage < biased_stages) apply_bias(scores);
      update_softmax(scores, state, rescale, scale_log2);
      // Exponentials and sums belong under PV[i - 1], but left to itself the assembler sinks them below the wait for
      // it. What stops it is a vote on the sums, which are never negative, between them and the wait's branches.
      const bool never = __any_sync(0xFFFFFFFFu, state.sum[0] < 0.f || state.sum[1] < 0.f);
      if (stage + 1 < num_stages || never) barrier_wait(&shared.k_full[k_ring.slot], k_ring.full_parity);
      wgmma_wait<0>();
      pin_registers(outputs);
      release(&shared.v_empty[v_ring.slot], lane);
      v_ring.advance();
      pack_probabilities<T>(probabilities, scores);
      rescale_rows(outputs, rescale);
    }
    release(&shared.q_empty[group], lane);
    if (num_stages > 0) {
      barrier_wait(&shared.v_full[v_ring.slot], v_ring.full_parity);
      wgmma_fence();
      issue_outputs<T, kHeadDim>(outputs, probabilities, shared.v[v_ring.slot]);
      wgmma_wait<0>();
      pin_registers(outputs);
      release(&shared.v_empty[v_ring.slot], lane);
      v_ring.advance();
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      store_row<T, kHeadDim>(args.params, state, i, tokens[i], batch, head, lane,
                             [&](int n) { return make_float2(outputs[4 * n + 2 * i], outputs[4 * n + 2 * i + 1]); });
    }
  }
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    attention_kernel(const __grid_constant__ AttentionArguments args) {
  extern __shared__ uint8_t dynamic_shared[];
  // Swizzled panels need 1024-byte alignment, which dynamic shared memory does not promise.
  const uint32_t misalignment = shared_address(dynamic_shared) % 1024;
  auto& shared = *reinterpret_cast<SharedStorage<kHeadDim>*>(dynamic_shared + (1024 - misalignment) % 1024);
  const int group = warp_uniform(threadIdx.x / 128);
  if (threadIdx.x == 0) {
    tma_prefetch_map(&args.k_map);
    tma_prefetch_map(&args.v_map);
    using Shared = SharedStorage<kHeadDim>;
    auto init_ring = [](Barrier* full, uint32_t full_arrivals, Barrier* empty, uint32_t empty_arrivals, int slots) {
      for (int slot = 0; slot < slots; ++slot) {
        barrier_init(full + slot, full_arrivals);
        barrier_init(empty + slot, empty_arrivals);
      }
    };
    barrier_init(&shared.plan_wanted, 32);
    init_ring(shared.plan_full, kPlannerThreads, shared.plan_empty, kConsumerThreads, kPlanSlots);
    init_ring(shared.q_full, kPlannerThreads, shared.q_empty, kConsumerWarps / kConsumerGroups, kConsumerGroups);
    init_ring(shared.k_full, 1, shared.k_empty, kConsumerWarps, Shared::kKeyStages);
    init_ring(shared.v_full, 1, shared.v_empty, kConsumerWarps, Shared::kValueStages);
    init_ring(shared.bias_full, 32, shared.bias_empty, kConsumerThreads, kBiasStages);
    barrier_init_fence();
  }
  __syncthreads();
  if (group == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kProducerRegisters));
    if (threadIdx.x < 32) {
      produce<kHeadDim>(args, shared, threadIdx.x);
    } else {
      plan_tiles<T, kHeadDim>(args, shared, threadIdx.x - 32);
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kConsumerRegisters));
    consume<T, kHeadDim>(args, shared, group - 1, threadIdx.x % 128);
  }
}

}  // namespace jenga::cuda::sm90
