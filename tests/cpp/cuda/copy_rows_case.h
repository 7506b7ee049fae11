// Calls of copy_rows: rows of some heads out of and into memory of more of them, and what must be there afterwards.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/params.h"

namespace jenga::testing {

using Words = std::vector<uint64_t>;  // starts on 16 bytes

// The memory of one side: [B, S, heads, row], or [B, heads, S, row]; the rows are those of heads first .. first +
// heads.
struct CopySide {
  bool tokens_first = true;
  int64_t heads_in_memory = 0, first = 0;
};

struct CopyRowsCase {
  const char* name;
  int64_t pairs, batch, heads, tokens, row_bytes;
  CopySide source, target;

  int64_t words_of(const CopySide& side) const { return batch * side.heads_in_memory * tokens * row_bytes / 8; }
  Strides strides_of(const CopySide& side) const {
    const int64_t all = side.heads_in_memory * tokens * row_bytes;
    if (side.tokens_first) return {all, row_bytes, side.heads_in_memory * row_bytes};
    return {all, tokens * row_bytes, row_bytes};
  }
  int64_t start_of(const CopySide& side) const { return side.first * strides_of(side).head; }

  // Of memory for each pair, anywhere.
  CopyRowsParams params(const std::vector<void*>& sources, const std::vector<void*>& targets) const {
    CopyRowsParams p{};
    for (int64_t i = 0; i < pairs; ++i) {
      p.pairs[i] = {static_cast<char*>(sources[i]) + start_of(source),
                    static_cast<char*>(targets[i]) + start_of(target), strides_of(source), strides_of(target)};
    }
    p.num_pairs = pairs;
    p.batch = batch;
    p.heads = heads;
    p.tokens = tokens;
    p.row_bytes = row_bytes;
    return p;
  }

  std::vector<Words> drawn_sources() const {
    std::mt19937_64 random(3);
    std::vector<Words> all(pairs, Words(words_of(source)));
    for (Words& words : all) {
      for (uint64_t& word : words) word = random();
    }
    return all;
  }
  std::vector<Words> unwritten_targets() const {
    return std::vector<Words>(pairs, Words(words_of(target), ~uint64_t{0}));
  }

  // What the targets must hold: the rows, and between them what was there.
  std::vector<Words> wanted(const std::vector<Words>& sources) const {
    std::vector<Words> all = unwritten_targets();
    const Strides from = strides_of(source), to = strides_of(target);
    for (int64_t i = 0; i < pairs * batch * heads * tokens; ++i) {
      const int64_t token = i % tokens, head = i / tokens % heads, b = i / tokens / heads % batch;
      const int64_t pair = i / tokens / heads / batch;
      const int64_t in = start_of(source) + b * from.batch + head * from.head + token * from.token;
      const int64_t out = start_of(target) + b * to.batch + head * to.head + token * to.token;
      for (int64_t word = 0; word < row_bytes / 8; ++word) all[pair][out / 8 + word] = sources[pair][in / 8 + word];
    }
    return all;
  }
};

inline const CopyRowsCase kCopyRowsCases[] = {
    {"HeadsOfAProjection", 3, 1, 3, 333, 256, {true, 8, 4}, {true, 3, 0}},
    {"IntoAllHeads", 1, 1, 3, 1001, 256, {true, 3, 0}, {true, 7, 2}},
    {"TwoBatches", 3, 2, 2, 77, 256, {true, 5, 1}, {true, 2, 0}},
    {"HeadsApart", 2, 2, 3, 129, 128, {false, 5, 1}, {false, 4, 1}},
    {"HeadsApartOnOneSide", 4, 2, 3, 65, 64, {false, 3, 0}, {true, 5, 2}},
    {"OneVector", 1, 1, 5, 211, 16, {true, 6, 1}, {true, 6, 1}},
    {"RowsOfNoPowerOfTwo", 2, 3, 1, 50, 208, {true, 3, 2}, {true, 2, 1}},
    {"WholeThreadBlocks", 1, 1, 2, 128, 256, {true, 3, 0}, {true, 2, 0}},
    {"OneToken", 1, 1, 4, 1, 512, {true, 5, 1}, {true, 4, 0}},
};

inline std::string name_of(const CopyRowsCase& c) { return c.name; }

}  // namespace jenga::testing
