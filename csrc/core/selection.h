// Which key blocks a query block keeps: the rule of kernels/params.h for one row of scores. Reference, not for speed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace jenga::core {

// scores: scaled logits of the pooled blocks. Probabilities are their softmax in fp32; blocks are taken by descending
// probability, ties by ascending index: max(min_blocks, 1 + #{prefixes whose mass <= top_p}), at most all of them.
// forced: one 0/1 per block, kept as well; empty for none. Returns the kept blocks in ascending order.
// Throws std::invalid_argument where forced has another length than scores.
std::vector<int32_t> select_row(std::span<const float> scores, int64_t min_blocks, float top_p,
                                std::span<const uint8_t> forced = {});

}  // namespace jenga::core
