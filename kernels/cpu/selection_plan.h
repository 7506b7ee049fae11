// What all tiers share of select_blocks: the rule, without a sort. A tier brings the scores and the weights.
#pragma once

#include "kernels/params.h"

namespace jenga::cpu {

struct SelectionTier {
  // scores[j] = scale * <q, k[j]> for j < num_blocks; k has rows of head_dim.
  void (*score)(const float* q, const float* k, int64_t num_blocks, int64_t head_dim, float scale, float* scores);
  // weights[j] = exp(scores[j] - max(scores)).
  void (*weigh)(const float* scores, int64_t num_blocks, float* weights);
};

void run_selection(const SelectBlocksParams& params, ParallelFor parallel_for, const SelectionTier& tier);

}  // namespace jenga::cpu
