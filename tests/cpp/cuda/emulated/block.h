// A thread block on the host: its threads are fibers that run in turn, and meet where the device's would. What the
// device code takes from CUDA is given here by the same names; include this before any kernel header.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

namespace jenga::emulated {

struct Index {
  int x;
};
inline Index thread_index, block_index, grid_size{1};

class Block {
 public:
  explicit Block(int threads) : threads_(threads), contexts_(threads), stacks_(threads), done_(threads) {
    for (auto& stack : stacks_) stack.resize(1 << 17);
  }

  // Runs body as every thread of thread block `index`.
  void run(int index, std::function<void()> body) {
    current() = this;
    body_ = std::move(body);
    block_index.x = index;
    for (int i = 0; i < threads_; ++i) {
      done_[i] = false;
      getcontext(&contexts_[i]);
      contexts_[i].uc_stack.ss_sp = stacks_[i].data();
      contexts_[i].uc_stack.ss_size = stacks_[i].size();
      makecontext(&contexts_[i], &Block::enter, 0);
    }
    for (bool left = true; left;) {
      left = false;
      for (int i = 0; i < threads_; ++i) {
        if (done_[i]) continue;
        left = true;
        thread_index.x = i;
        swapcontext(&main_, &contexts_[i]);
      }
    }
  }

  static Block*& current() {
    static Block* block = nullptr;
    return block;
  }

  void sync_block() { meet(block_, threads_); }
  // Barriers with a number, as bar.sync and bar.arrive have them.
  void sync_named(int number, int threads) { meet(named_[number], threads); }
  void arrive_named(int number, int threads) {
    if (++named_[number].here == threads) open(named_[number]);
  }

  // Lets other threads run until it is true. Ends the process where nobody makes it so: a deadlock on the device.
  template <class Condition>
  void wait_until(Condition condition) {
    for (int64_t turns = 0; !condition(); ++turns, ++idle_turns_) {
      if (turns == 1 << 24) std::abort();
      leave_fiber();
    }
    idle_turns_ = 0;
  }
  // What takes its time: others have so many turns meanwhile.
  void let_others_run(int turns) {
    for (int i = 0; i < turns; ++i) leave_fiber();
  }
  // Whether every thread that is left waits.
  bool is_stuck() const { return idle_turns_ > 4 * threads_; }
  void sync_warp() { meet(warps_[thread_index.x / 32], 32); }

  // What every thread of the warp left last, by lane.
  template <class Value>
  void leave(const Value& value) {
    static_assert(sizeof(Value) <= sizeof(Mail));
    std::memcpy(&mail_[thread_index.x], &value, sizeof value);
  }
  template <class Value>
  Value left_by(int thread) const {
    Value value;
    std::memcpy(&value, &mail_[thread], sizeof value);
    return value;
  }
  int first_of_warp() const { return thread_index.x / 32 * 32; }
  int threads() const { return threads_; }

 private:
  struct Meeting {
    int here = 0;
    int64_t number = 0;
  };
  struct Mail {
    uint64_t words[4];
  };

  void meet(Meeting& meeting, int wanted) {
    if (++meeting.here == wanted) return open(meeting);
    const int64_t number = meeting.number;
    wait_until([&] { return number != meeting.number; });
  }
  void open(Meeting& meeting) {
    idle_turns_ = 0;
    meeting.here = 0;
    ++meeting.number;
  }

  void leave_fiber() {
    const int me = thread_index.x;
    swapcontext(&contexts_[me], &main_);
    thread_index.x = me;
  }

  static void enter() {
    Block& block = *current();
    block.body_();
    block.done_[thread_index.x] = true;
    block.leave_fiber();
  }

  int threads_;
  int64_t idle_turns_ = 0;  // of threads that wait, since one went on
  std::vector<ucontext_t> contexts_;
  std::vector<std::vector<char>> stacks_;
  std::vector<char> done_;
  ucontext_t main_;
  std::function<void()> body_;
  Meeting block_, warps_[32], named_[16];
  Mail mail_[1024];
};

inline Block& block() { return *Block::current(); }

// The value that a lane of the same warp has.
template <class Value>
Value of_lane(Value value, int lane) {
  block().leave(value);
  block().sync_warp();
  const Value other = block().left_by<Value>(block().first_of_warp() + lane);
  block().sync_warp();
  return other;
}

inline int count(bool value, bool of_block) {
  block().leave(value);
  of_block ? block().sync_block() : block().sync_warp();
  int number = 0;
  const int first = of_block ? 0 : block().first_of_warp(), last = of_block ? block().threads() : first + 32;
  for (int i = first; i < last; ++i) number += block().left_by<bool>(i);
  of_block ? block().sync_block() : block().sync_warp();
  return number;
}

// A bit a lane.
inline uint32_t ballot(bool value) {
  block().leave(value);
  block().sync_warp();
  uint32_t bits = 0;
  for (int lane = 0; lane < 32; ++lane) bits |= uint32_t{block().left_by<bool>(block().first_of_warp() + lane)} << lane;
  block().sync_warp();
  return bits;
}

}  // namespace jenga::emulated

// Shared memory is one of all fibers; dynamic shared memory (JENGA_EMULATES_DYNAMIC_SHARED) is declared extern already.
#undef __shared__
#ifdef JENGA_EMULATES_DYNAMIC_SHARED
#define __shared__
#else
#define __shared__ static
#endif
#define threadIdx (::jenga::emulated::thread_index)
#define blockIdx (::jenga::emulated::block_index)
#define gridDim (::jenga::emulated::grid_size)
#define __syncthreads() ::jenga::emulated::block().sync_block()
#define __syncthreads_count(value) ::jenga::emulated::count(value, true)
#define __any_sync(mask, value) (::jenga::emulated::count(value, false) > 0)
#define __ballot_sync(mask, value) ::jenga::emulated::ballot(value)
#define __syncwarp() ::jenga::emulated::block().sync_warp()
#define __shfl_sync(mask, value, lane) ::jenga::emulated::of_lane(value, lane)
#define __shfl_xor_sync(mask, value, lanes) ::jenga::emulated::of_lane(value, (threadIdx.x % 32) ^ (lanes))

using std::max;
using std::min;
static inline float __fdividef(float a, float b) { return a / b; }
static inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }
static inline int __popcll(uint64_t bits) { return __builtin_popcountll(bits); }
static inline int __ffsll(uint64_t bits) { return __builtin_ffsll(static_cast<int64_t>(bits)); }
static inline int atomicAdd(int* word, int value) {
  const int before = *word;
  *word += value;
  return before;
}
static inline int atomicMax(int* word, int value) {
  const int before = *word;
  *word = std::max(before, value);
  return before;
}
static inline uint32_t atomicOr(uint32_t* word, uint32_t bits) {
  const uint32_t before = *word;
  *word |= bits;
  return before;
}
static inline float __fadd_rn(float a, float b) { return a + b; }
// Bytes of low (0 .. 3) and high (4 .. 7), by four digits, the lowest first.
static inline uint32_t __byte_perm(uint32_t low, uint32_t high, uint32_t digits) {
  const uint64_t bytes = uint64_t{high} << 32 | low;
  uint32_t chosen = 0;
  for (int i = 0; i < 4; ++i) chosen |= static_cast<uint32_t>(bytes >> 8 * (digits >> 4 * i & 7) & 0xFF) << 8 * i;
  return chosen;
}
static inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
static inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
template <class Value>
Value __ldcs(const Value* source) {
  return *source;
}
template <class Value>
Value __ldg(const Value* source) {
  return *source;
}
