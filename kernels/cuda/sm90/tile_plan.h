// Which query tile comes next and which key stages it needs. Tickets run over the heads, longest list first. The
// context tiles of all heads, whose lists are full, come in one go before the last heads: late, because thread blocks
// that started together sweep a head's keys in step and find them in L2, which tiles of another length end; not last,
// because the short tiles after them fill up the processors. A thread block draws its next ticket shortly before it
// needs it: who works on a tile varies from run to run, what is computed for it never does.
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

__device__ __forceinline__ void locate_tile(const AttentionArguments& args, int ticket, TilePlan& plan) {
  if (ticket >= args.num_tickets) {
    plan.batch = -1;
    return;
  }
  const int heads = static_cast<int>(args.params.heads);
  const int context_tickets = static_cast<int>(args.params.batch) * heads * args.context_tiles;
  const int context_rank = ticket - args.first_context_ticket;
  plan.is_context = context_rank >= 0 && context_rank < context_tickets;
  int batch_head;
  if (plan.is_context) {
    batch_head = context_rank / args.context_tiles;
    plan.video_block = 0;
    plan.first_row = (context_rank - batch_head * args.context_tiles) * kTileRows;
    plan.count = args.num_kv_blocks;
  } else {
    const int rank = context_rank < 0 ? ticket : ticket - context_tickets;
    batch_head = rank / args.num_q_blocks;
    plan.video_block = args.tile_order[rank];
    plan.first_row = plan.video_block * kTileRows;
    plan.count = args.params.kv_block_count[static_cast<int64_t>(batch_head) * args.num_q_blocks + plan.video_block];
  }
  plan.batch = batch_head / heads;
  plan.head = batch_head - plan.batch * heads;
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
  const int words = (kStageRows / 32) >> args.block_cells_log2;
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
