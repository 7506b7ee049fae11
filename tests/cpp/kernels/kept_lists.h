// Calls of kept_share: lists of random lengths, some of them empty, many with the last key block in them.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/params.h"

namespace jenga::test {

struct KeptCase {
  const char* name;
  int64_t batch, heads, num_video, kv_block_size;
};

inline constexpr KeptCase kKeptCases[] = {
    {"Whole", 2, 3, 640, 64},
    {"WholeKeys128", 2, 3, 640, 128},
    {"RaggedRows", 1, 2, 448, 64},
    {"Ragged", 2, 3, 5000, 64},
    {"RaggedKeys128", 1, 2, 5000, 128},
    {"LessThanABlock", 1, 1, 5, 64},
    {"MoreThanAThread", 3, 4, 64600, 128},
};

inline std::string name_of(const KeptCase& c) { return c.name; }

struct KeptLists {
  KeptCase shape;
  int64_t max_kv;
  std::vector<int32_t> index, count;

  explicit KeptLists(const KeptCase& c) : shape(c), max_kv(ceil_div(c.num_video, c.kv_block_size)) {
    std::mt19937 random(11);
    const int64_t lists = c.batch * c.heads * ceil_div(c.num_video, kQueryBlockRows);
    index.assign(lists * max_kv, -1);
    for (int64_t list = 0; list < lists; ++list) {
      const double kept = list % 5 == 0 ? 0 : std::uniform_real_distribution<>(0, 1)(random);
      int32_t number = 0;
      for (int32_t block = 0; block < max_kv; ++block) {
        if (std::bernoulli_distribution(kept)(random)) index[list * max_kv + number++] = block;
      }
      count.push_back(number);
    }
  }

  KeptShareParams params(float* kept_share) const {
    return {.kv_block_index = index.data(),
            .kv_block_count = count.data(),
            .kept_share = kept_share,
            .batch = shape.batch,
            .heads = shape.heads,
            .num_video = shape.num_video,
            .max_kv = max_kv,
            .kv_block_size = shape.kv_block_size};
  }
};

}  // namespace jenga::test
