// Values to e4m3 codes in blocks of 64 rows (rule: kernels/params.h; layout: kernels/value_blocks.h).
#pragma once

#include "kernels/cuda/common/prepare_blocks.h"
#include "kernels/cuda/common/quantise.h"
#include "kernels/value_blocks.h"

namespace jenga::cuda {

// What the values of one head are written with.
struct ValueRule {
  const float *scale, *center;  // [D]
  uint8_t* codes;               // blocks
};

// Whether any of four codes, or of more such words or-ed, has a magnitude of 256 or more: the top of e4m3's exponents.
__device__ __forceinline__ uint32_t top_power(uint32_t codes) { return (codes & 0x78787878u) + 0x08080808u; }
__device__ __forceinline__ bool has_top_power(uint32_t of_words) { return (of_words & 0x80808080u) != 0; }

// Codes of 16 rows of a warp, in the order of a block, of four channels: those from lane % 16 * 8 on below lane 16, the
// next four from there on. vectors[pass] is row 2 * pass + lane / 16, channels from lane % 16 * 8 on. is_token: bit 2 *
// pass of that row; one that is no token has codes 0. Returns whether a code of the thread's own rows is far beyond
// those of sampled rows, so that its value may be too large for the scale.
template <class T>
__device__ __forceinline__ bool turn_value_codes(uint4 (&codes)[4], const ValueRule& rule, const uint4 (&vectors)[8],
                                                 uint32_t is_token) {
  const int lane = threadIdx.x % 32, channel = lane % 16 * kVectorElements;
  float center[kVectorElements], inverse[kVectorElements];
  load_row(rule.center + channel, center);
  load_row(rule.scale + channel, inverse);
#pragma unroll
  for (float& x : inverse) x = fminf(1.f / x, 0x1.fffffep127f);  // finite: 0 times it is 0
  // Word w of a block's sixteen has rows 2 w and 2 w + 1, 8 + 2 w and 8 + 2 w + 1. Of these a thread has one of each
  // pair: passes w and w + 4. mine: such codes of words 0 and 1, and of words 2 and 3.
  uint32_t mine[kVectorElements][2], powers = 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t kept = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int pass = 2 * half + i / 2 + i % 2 * 4;
      kept |= (is_token >> 2 * pass & 1u) * (0xFFu << 8 * i);
    }
#pragma unroll
    for (int pair = 0; pair < kVectorElements / 2; ++pair) {
      const auto code = [&](int pass) {
        const uint32_t words[4] = {vectors[pass].x, vectors[pass].y, vectors[pass].z, vectors[pass].w};
        const float2 x = unpack_pair<T>(words[pair]);
        // Rounded as the product; + 0 makes 0 of -0, whose code is another.
        return make_float2(fmaf(x.x - center[2 * pair], inverse[2 * pair], 0.f),
                           fmaf(x.y - center[2 * pair + 1], inverse[2 * pair + 1], 0.f));
      };
      const float2 a = code(2 * half), b = code(2 * half + 4), c = code(2 * half + 1), d = code(2 * half + 5);
      mine[2 * pair][half] = (float8_codes(a.x, b.x) | float8_codes(c.x, d.x) << 16) & kept;
      mine[2 * pair + 1][half] = (float8_codes(a.y, b.y) | float8_codes(c.y, d.y) << 16) & kept;
      powers |= top_power(mine[2 * pair][half]) | top_power(mine[2 * pair + 1][half]);
    }
  }
  // The other half of the rows of half of the channels, from the lane that has it.
  const bool is_odd = lane >= 16;
  const uint32_t first = is_odd ? 0x1504 : 0x5140, second = is_odd ? 0x3726 : 0x7362;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint32_t words[4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t own = is_odd ? mine[i + 4][half] : mine[i][half];
      const uint32_t other = __shfl_xor_sync(0xFFFFFFFFu, is_odd ? mine[i][half] : mine[i + 4][half], 16);
      words[2 * half] = __byte_perm(own, other, first);
      words[2 * half + 1] = __byte_perm(own, other, second);
    }
    codes[i] = make_uint4(words[0], words[1], words[2], words[3]);
  }
  return has_top_power(powers);
}

// Both blocks of a tile, whose rows are loaded as prepare_blocks loads them: vectors[pass] is row 2 * pass + lane / 16
// of the 16 of each warp, channels from lane % 16 * 8 on. my_token: of row lane % 16, -1 where there is none, which
// gives codes 0. first_row: of the tile among those of the head; nothing is written from end on, the end of its last
// block. is_beyond is set where turn_value_codes finds such a code. All threads of the block.
template <class T>
__device__ __forceinline__ void write_value_codes(const ValueRule& rule, const uint4 (&vectors)[8], int my_token,
                                                  int64_t first_row, int64_t end, int32_t* is_beyond) {
  constexpr int kChannels = static_cast<int>(kFloat8HeadDim), kBlocks = kPrepareRows / kValueBlockKeys;
  constexpr int kPieces = kValueBlockKeys / 16;  // of a channel: 16 bytes, of a warp's rows
  __shared__ uint4 turned[kBlocks * kChannels * kPieces];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  // Eight lanes write the same piece of channels eight apart, 512 bytes: they are spread over 128 bytes.
  const auto place = [](uint32_t piece) { return piece ^ piece / 32 % 8; };
  uint4 codes[4];
  if (turn_value_codes<T>(codes, rule, vectors, __ballot_sync(0xFFFFFFFFu, my_token >= 0) >> lane / 16)) *is_beyond = 1;
  const int channel = lane % 16 * kVectorElements + lane / 16 * 4;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    turned[place((warp / kPieces * kChannels + channel + i) * kPieces + warp % kPieces)] = codes[i];
  __syncthreads();
  const int blocks = end - first_row < kPrepareRows ? static_cast<int>(end - first_row) / kValueBlockKeys : kBlocks;
  uint8_t* const target = rule.codes + value_offset(first_row, 0, kChannels) + 16 * threadIdx.x;
  const uint4* const source = turned + place(threadIdx.x);
  static_assert(kPrepareThreads % 256 == 0, "what place() changes is the same in every pass");
#pragma unroll
  for (int first = 0; first < kBlocks * kChannels * kPieces; first += kPrepareThreads) {
    if (first < blocks * kChannels * kPieces) store_vector(target + 16 * first, source[first]);
  }
}

}  // namespace jenga::cuda
