// What all tiers share of select_blocks: packing, groups of query blocks, and the rule, without a sort. A tier brings
// the masses of key blocks.
#pragma once

#include "kernels/cpu/attention_plan.h"

namespace jenga::cpu {

// Query cells that pass over a packed head together: whole blocks, and a multiple of every tier's rows.
inline constexpr int64_t kGroupCells = 24;

// Packed means of one head (attention_plan.h has the layout) and log2 of the last one's tokens over a whole one's.
struct KeyPanel {
  const float* units;
  int64_t size;
  float last_log2;
};

// Some query blocks of one head.
struct MassJob {
  const float* q_words;    // [kGroupCells][words], zeros past what exists
  const float* weights;    // [kGroupCells] tokens of each query cell, 0 where there is none
  KeyPanel coarse, cells;  // means of coarse cells and of key cells
  int64_t num_kv_blocks, words, q_cells, k_cells;
  float scale;          // softmax_scale * log2(e)
  float* logits;        // scratch [kGroupCells][units of cells * kUnitKeys]
  float* cell_masses;   // scratch [units of cells * kUnitKeys]
  float* block_masses;  // out [kGroupCells / q_cells][nkv], up to a factor for each row
};

struct SelectionTier {
  int64_t per_word;
  void (*pack)(const PackJob&);
  // `count` rows of query cells as words.
  void (*pack_queries)(const SelectBlocksParams&, const void* rows, int64_t count, float* words);
  void (*masses)(const MassJob&);
};

void run_selection(const SelectBlocksParams& params, ParallelFor parallel_for, const SelectionTier& tier);

}  // namespace jenga::cpu
