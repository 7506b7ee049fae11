// Reference selection: which key blocks one query block keeps (the rule of select_blocks in kernels/params.h).
//
// p = softmax(score). Blocks are ranked by descending score, ties by ascending index. Kept are the first
// max(min_blocks, 1 + #{prefixes whose mass <= top_p}), that is the smallest prefix whose mass exceeds top_p, at most
// all; and every forced block. min_blocks is a floor and top_p the adaptive part: nothing caps the list.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace jenga::core {

// scores: [nkv] finite logits, the softmax scale already in them. forced: [nkv] 0/1 or empty.
// Returns the kept blocks, ascending. Throws std::invalid_argument for empty or non-finite scores, a forced row of
// another length, min_blocks < 1, top_p < 0 or NaN.
std::vector<int32_t> select_row(std::span<const float> scores, int64_t min_blocks, float top_p,
                                std::span<const uint8_t> forced = {});

}  // namespace jenga::core
