// Which query tile comes next and which key stages it needs. Tickets run over the context tiles of all heads (their
// lists are full, hence longest), then over the heads, longest list first. A thread block draws its next ticket shortly
// before it needs it: who works on a tile varies from run to run, what is computed for it never does.
//
// Stages of a tile, 128 keys each: context, tail stages with at least one dropped cell, the video stage that has keys
// missing (ragged last block, or an odd 64-block), then full video stages, which alone need no bias.
#pragma once

#include <cstdint>

#include "kernels/cuda/sm90/arguments.h"

namespace jenga::cuda::sm90 {

struct TilePlan {
  int32_t batch;  // -1: no tile left
  int32_t head;
  int32_t is_context;
  int32_t first_row;      // among the context or the video rows
  int32_t count;          // key blocks in the list; context tiles take all of them, without a list
  int32_t video_block;    // query block, for the list's address
  int32_t biased_stages;  // stages that get a bias per key
  int32_t video_stages;
  int32_t has_partial_stage;          // the last video stage has keys missing
  uint64_t tail_stages;               // bit s: cells 128 s .. 128 s + 127 hold a dropped one
  int32_t token[kTileRows];           // raster row of every query row, -1 past the end
  uint32_t kept[kMaxTailCells / 32];  // bitset of kept key blocks, built only where there is a tail

  __device__ int num_stages() const { return biased_stages + video_stages - has_partial_stage; }
};

inline constexpr int kContextLead = 4;

// Order of tickets: context of the first kContextLead + 1 heads; then, for every head that has one so many places
// after it, its video tiles and the later one's context tiles; then the video tiles of the last heads.
__device__ __forceinline__ void locate_tile(const AttentionArguments& args, int ticket, TilePlan& plan) {
  if (ticket >= args.num_tickets) {
    plan.batch = -1;
    return;
  }
  const int heads = static_cast<int>(args.params.heads);
  const int batch_heads = static_cast<int>(args.params.batch) * heads;
  const int context_tiles = args.context_tiles, video_tiles = args.num_q_blocks;
  const int early_heads = min(batch_heads, kContextLead + 1);
  const int mixed_heads = batch_heads - early_heads;
  int batch_head, tile;
  bool is_context = false;
  if (ticket < early_heads * context_tiles) {
    is_context = true;
    batch_head = ticket / context_tiles;
    tile = ticket - batch_head * context_tiles;
  } else {
    ticket -= early_heads * context_tiles;
    const int group = min(ticket / (video_tiles + context_tiles), mixed_heads);
    ticket -= group * (video_tiles + context_tiles);
    is_context = group < mixed_heads && ticket >= video_tiles;
    if (is_context) {
      batch_head = group + early_heads;
      tile = ticket - video_tiles;
    } else {
      batch_head = group + ticket / video_tiles;
      tile = ticket % video_tiles;
    }
  }
  plan.is_context = is_context;
  plan.batch = batch_head / heads;
  plan.head = batch_head - plan.batch * heads;
  plan.video_block = is_context ? 0 : args.tile_order[batch_head * video_tiles + tile];
  plan.first_row = (is_context ? tile : plan.video_block) * kTileRows;
  plan.count = is_context
                   ? args.num_kv_blocks
                   : args.params.kv_block_count[static_cast<int64_t>(batch_head) * video_tiles + plan.video_block];
}

__device__ __forceinline__ const int32_t* list_of(const AttentionArguments& args, const TilePlan& plan) {
  const int64_t batch_head = static_cast<int64_t>(plan.batch) * args.params.heads + plan.head;
  return args.params.kv_block_index + (batch_head * args.num_q_blocks + plan.video_block) * args.params.max_kv;
}

// One thread, once the list is known: the video stages, and whether the last one has keys missing.
__device__ __forceinline__ void count_video_stages(const AttentionArguments& args, TilePlan& plan) {
  const int block_rows = static_cast<int>(args.params.kv_block_size);
  plan.video_stages = (plan.count * block_rows + kStageRows - 1) / kStageRows;
  plan.has_partial_stage = 0;
  if (plan.count > 0) {
    const int last_block = plan.is_context ? plan.count - 1 : list_of(args, plan)[plan.count - 1];
    const bool ragged = args.params.num_video % block_rows != 0 && last_block == args.num_kv_blocks - 1;
    plan.has_partial_stage = ragged || plan.count * block_rows % kStageRows != 0;
  }
}

// True where tail stage `stage` holds a cell whose key block was dropped. A stage covers 128, 64 or 32 blocks, hence
// whole words of the bitset.
__device__ __forceinline__ bool tail_stage_needed(const AttentionArguments& args, const TilePlan& plan, int stage) {
  const int cells_per_block = static_cast<int>(args.params.kv_block_size / args.params.tail_block_size);
  const int words = kStageRows / 32 / cells_per_block;
  bool needed = false;
  for (int word = stage * words; word < (stage + 1) * words; ++word) {
    const int blocks = args.num_kv_blocks - word * 32;
    if (blocks <= 0) break;
    const uint32_t valid = blocks >= 32 ? 0xFFFFFFFFu : (1u << blocks) - 1u;
    needed |= (~plan.kept[word] & valid) != 0;
  }
  return needed;
}

}  // namespace jenga::cuda::sm90
