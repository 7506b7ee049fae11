// block_sparse_attention for sm_90a, one persistent thread block per multiprocessor (formula: kernels/params.h).
//
// Warp 0 is the producer: it walks a tile's stages and keeps rings of two K and two V stages filled by the copy engine,
// K one stage ahead of V, each K stage with its bias row. Warps 1 to 3 prepare the next tile: draw its ticket, gather
// its queries, mark its kept blocks. Warpgroups 1 and 2 compute 64 query rows each: QK[i + 1] is issued before PV[i],
// and the two take turns, so that one's softmax runs under the other's products.
//
// Every ring slot has a full and an empty barrier; slot and parity follow from how often it was used.
#pragma once

#include "kernels/cuda/sm90/arguments.h"
#include "kernels/cuda/sm90/epilogue.h"
#include "kernels/cuda/sm90/mbarrier.h"
#include "kernels/cuda/sm90/softmax.h"
#include "kernels/cuda/sm90/tile_plan.h"
#include "kernels/cuda/sm90/tma.h"
#include "kernels/cuda/sm90/wgmma.h"

namespace jenga::cuda::sm90 {

inline constexpr int kSlots = 2;
inline constexpr int kConsumerWarps = 8;
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

template <int kHeadDim>
struct SharedStorage {
  static constexpr int kPanels = kHeadDim / kPanelChannels;
  static constexpr int kTileBytes = kPanels * kPanelBytes;
  uint8_t q[kSlots][kTileBytes];
  uint8_t k[kSlots][kTileBytes];
  uint8_t v[kSlots][kTileBytes];
  float bias[kSlots][kStageRows];  // beside the K stage of the same slot
  TilePlan plan[kSlots];           // beside the queries of the same slot
  Barrier q_full[kSlots], q_empty[kSlots];
  Barrier k_full[kSlots], k_empty[kSlots];
  Barrier v_full[kSlots], v_empty[kSlots];
  Barrier plan_wanted;
};

// Position in a ring over all tiles.
struct RingPosition {
  uint32_t count = 0;
  __device__ int slot() const { return count % kSlots; }
  __device__ uint32_t full_parity() const { return count / kSlots & 1; }
  // A slot's first use passes at once: a fresh barrier counts as having completed a phase of parity 1.
  __device__ uint32_t empty_parity() const { return full_parity() ^ 1; }
  __device__ void advance() { ++count; }
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
    const int cell_rows = static_cast<int>(params.tail_block_size);
    const int block = cell / static_cast<int>(params.kv_block_size / params.tail_block_size);
    if (plan.kept[block / 32] >> (block % 32) & 1) return -INFINITY;
    const int rows = min(cell_rows, static_cast<int>(params.num_video) - cell * cell_rows);
    return __logf(static_cast<float>(rows)) / params.softmax_scale;
  }
  const int row = (column < kBoxRows ? source.row[0] : source.row[1]) + column % kBoxRows;
  if (stage < args.context_tiles) {
    if (row >= params.num_context) return -INFINITY;
    if (params.context_bias == nullptr) return 0.f;
    const float bias = params.context_bias[static_cast<int64_t>(plan.batch) * args.context_tiles * kTileRows + row];
    if (bias == -INFINITY) return bias;
    return plan.is_context ? 0.f : bias / params.softmax_scale;
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
  constexpr uint32_t kStageBytes = SharedStorage<kHeadDim>::kTileBytes;
  RingPosition tile, k_ring, v_ring;
  for (;; tile.advance()) {
    barrier_wait(&shared.q_full[tile.slot()], tile.full_parity());
    const TilePlan& plan = shared.plan[tile.slot()];
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
        const int slot = k_ring.slot();
        barrier_wait(&shared.k_empty[slot], k_ring.empty_parity());
        if (lane == 0) {
          barrier_expect_bytes(&shared.k_full[slot], kStageBytes);
          load_stage<kHeadDim>(shared.k[slot], source.is_tail ? &args.k_tail_map : &args.k_map, &shared.k_full[slot],
                               source, head, batch);
        }
        if (stage < biased_stages) {
          for (int column = lane; column < kStageRows; column += 32)
            shared.bias[slot][column] = key_bias(args, plan, source, stage, column);
        }
        __syncwarp();
        if (lane == 0) barrier_arrive(&shared.k_full[slot]);
        k_ring.advance();
      }
      if (stage > 0) {
        const int slot = v_ring.slot();
        barrier_wait(&shared.v_empty[slot], v_ring.empty_parity());
        if (lane == 0) {
          barrier_expect_bytes(&shared.v_full[slot], kStageBytes);
          load_stage<kHeadDim>(shared.v[slot], previous.is_tail ? &args.v_tail_map : &args.v_map, &shared.v_full[slot],
                               previous, head, batch);
          barrier_arrive(&shared.v_full[slot]);
        }
        v_ring.advance();
      }
      previous = source;
      // The plan of this tile is not read past its end, and the planners need two tiles to come back to its slot.
      if (stage == max(num_stages - kPlanLead, 0) && lane == 0) barrier_arrive(&shared.plan_wanted);
    }
  }
}

__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}

template <class T, int kHeadDim>
__device__ __forceinline__ void gather_queries(const AttentionArguments& args, const TilePlan& plan, uint8_t* shared_q,
                                               int thread) {
  constexpr int kChunks = kHeadDim / 8;  // of 16 bytes, per row
  const BlockSparseAttentionParams& params = args.params;
  const T* q =
      static_cast<const T*>(params.q) + plan.batch * params.q_strides.batch + plan.head * params.q_strides.head;
  for (int index = thread; index < kTileRows * kChunks; index += kPlannerThreads) {
    const int row = index / kChunks, chunk = index % kChunks;
    const int64_t token = plan.token[row];
    const T* source = token < 0 ? q : q + token * params.q_strides.token + chunk * 8;
    uint8_t* target = shared_q + chunk / 8 * kPanelBytes + row * kPanelRowBytes + ((chunk % 8) ^ (row % 8)) * 16;
    copy_async_16(target, source, token >= 0);
  }
}

template <class T, int kHeadDim>
__device__ __forceinline__ void plan_tiles(const AttentionArguments& args, SharedStorage<kHeadDim>& shared,
                                           int thread) {
  for (RingPosition tile;; tile.advance()) {
    TilePlan& plan = shared.plan[tile.slot()];
    barrier_wait(&shared.plan_wanted, (tile.count & 1) ^ 1);
    barrier_wait(&shared.q_empty[tile.slot()], tile.empty_parity());
    if (thread == 0) locate_tile(args, atomicAdd(args.next_ticket, 1), plan);
    named_barrier_sync(kPlannerBarrier, kPlannerThreads);
    if (plan.batch < 0) {
      barrier_arrive(&shared.q_full[tile.slot()]);
      return;
    }
    const int64_t limit = plan.is_context ? args.params.num_context : args.params.num_video;
    for (int row = thread; row < kTileRows; row += kPlannerThreads) {
      const int64_t position = plan.first_row + row;
      plan.token[row] =
          position < limit ? args.params.token_index[position + (plan.is_context ? 0 : args.params.num_context)] : -1;
    }
    const bool has_tail = args.num_tail_cells > 0 && plan.count < args.num_kv_blocks;
    if (has_tail) {
      for (int word = thread; word * 32 < args.num_kv_blocks; word += kPlannerThreads) plan.kept[word] = 0;
    }
    named_barrier_sync(kPlannerBarrier, kPlannerThreads);
    gather_queries<T, kHeadDim>(args, plan, shared.q[tile.slot()], thread);
    if (has_tail) {
      const int32_t* list = list_of(args, plan);
      for (int position = thread; position < plan.count; position += kPlannerThreads) {
        const int block = list[position];
        atomicOr(&plan.kept[block / 32], 1u << (block % 32));
      }
      named_barrier_sync(kPlannerBarrier, kPlannerThreads);
    }
    if (thread < 32) {
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
    // The products read the queries through the async proxy: each writer fences its own copies, then arrives.
    asm volatile("cp.async.wait_all;\nfence.proxy.async.shared::cta;" ::: "memory");
    barrier_arrive(&shared.q_full[tile.slot()]);
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

// One arrival per warp: a warp's own wait covers only its own quarter of the products.
__device__ __forceinline__ void release(Barrier* empty, int lane) {
  __syncwarp();
  if (lane == 0) barrier_arrive(empty);
}

template <class T, int kHeadDim>
__device__ __forceinline__ void consume(const AttentionArguments& args, SharedStorage<kHeadDim>& shared, int group,
                                        int thread) {
  const int lane = thread % 32;
  const int first_row = 64 * group + 16 * (thread / 32);
  const float scale_log2 = args.params.softmax_scale * 1.44269504088896340736f;
  RingPosition tile, k_ring, v_ring;
  if (group == 1) named_barrier_arrive(kTurnBarrier, 256);  // group 0 goes first
  for (;; tile.advance()) {
    barrier_wait(&shared.q_full[tile.slot()], tile.full_parity());
    const TilePlan& plan = shared.plan[tile.slot()];
    const int batch = plan.batch, head = plan.head;
    if (batch < 0) return;
    const int num_stages = plan.num_stages(), biased_stages = plan.biased_stages;
    const int32_t tokens[2] = {plan.token[first_row + lane / 4], plan.token[first_row + lane / 4 + 8]};
    const uint8_t* q = shared.q[tile.slot()] + 64 * group * kPanelRowBytes;

    float scores[64];
    float outputs[kHeadDim / 2];
    uint32_t probabilities[32];
    RowState state;
    float rescale[2];
#pragma unroll
    for (float& value : outputs) value = 0.f;

    if (num_stages > 0) {
      barrier_wait(&shared.k_full[k_ring.slot()], k_ring.full_parity());
      wgmma_fence();
      issue_scores<T, kHeadDim>(scores, q, shared.k[k_ring.slot()]);
      wgmma_wait<0>();
      pin_registers(scores);
      if (biased_stages > 0) add_bias(scores, shared.bias[k_ring.slot()], lane);
      release(&shared.k_empty[k_ring.slot()], lane);
      k_ring.advance();
      update_softmax(scores, state, rescale, scale_log2);
      pack_probabilities<T>(probabilities, scores);
      if (num_stages > 1) barrier_wait(&shared.k_full[k_ring.slot()], k_ring.full_parity());
    }
    for (int stage = 1; stage < num_stages; ++stage) {
      named_barrier_sync(kTurnBarrier + group, 256);
      wgmma_fence();
      issue_scores<T, kHeadDim>(scores, q, shared.k[k_ring.slot()]);
      barrier_wait(&shared.v_full[v_ring.slot()], v_ring.full_parity());
      wgmma_fence();
      issue_outputs<T, kHeadDim>(outputs, probabilities, shared.v[v_ring.slot()]);
      named_barrier_arrive(kTurnBarrier + (group ^ 1), 256);
      wgmma_wait<1>();
      pin_registers(scores);
      if (stage < biased_stages) add_bias(scores, shared.bias[k_ring.slot()], lane);
      release(&shared.k_empty[k_ring.slot()], lane);
      k_ring.advance();
      update_softmax(scores, state, rescale, scale_log2);
      // Once the maxima have settled, which takes few stages, whole warps have nothing to rescale. The sums, never
      // negative, are in the vote because exponentials and sums belong under PV[i - 1]: left to itself the assembler
      // sinks them below the wait for it.
      const bool rescale_outputs = __any_sync(
          0xFFFFFFFFu, rescale[0] != 1.f || rescale[1] != 1.f || state.sum[0] < 0.f || state.sum[1] < 0.f);
      if (stage + 1 < num_stages) barrier_wait(&shared.k_full[k_ring.slot()], k_ring.full_parity());
      wgmma_wait<0>();
      pin_registers(outputs);
      release(&shared.v_empty[v_ring.slot()], lane);
      v_ring.advance();
      pack_probabilities<T>(probabilities, scores);
      if (rescale_outputs) rescale_rows(outputs, rescale);
    }
    release(&shared.q_empty[tile.slot()], lane);
    if (num_stages > 0) {
      barrier_wait(&shared.v_full[v_ring.slot()], v_ring.full_parity());
      wgmma_fence();
      issue_outputs<T, kHeadDim>(outputs, probabilities, shared.v[v_ring.slot()]);
      wgmma_wait<0>();
      pin_registers(outputs);
      release(&shared.v_empty[v_ring.slot()], lane);
      v_ring.advance();
    }
    store_outputs<T, kHeadDim>(args.params, outputs, state, tokens, batch, head, lane);
  }
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    attention_kernel(const __grid_constant__ AttentionArguments args) {
  extern __shared__ uint8_t dynamic_shared[];
  // Swizzled panels need 1024-byte alignment, which dynamic shared memory does not promise.
  const uint32_t misalignment = shared_address(dynamic_shared) % 1024;
  auto& shared = *reinterpret_cast<SharedStorage<kHeadDim>*>(dynamic_shared + (1024 - misalignment) % 1024);
  const int group = threadIdx.x / 128;
  if (threadIdx.x == 0) {
    tma_prefetch_map(&args.k_map);
    tma_prefetch_map(&args.v_map);
    for (int slot = 0; slot < kSlots; ++slot) {
      barrier_init(&shared.q_full[slot], kPlannerThreads);
      barrier_init(&shared.q_empty[slot], kConsumerWarps);
      barrier_init(&shared.k_full[slot], 1);
      barrier_init(&shared.k_empty[slot], kConsumerWarps);
      barrier_init(&shared.v_full[slot], 1);
      barrier_init(&shared.v_empty[slot], kConsumerWarps);
    }
    barrier_init(&shared.plan_wanted, 1);
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
