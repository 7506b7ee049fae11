#include "kernels/cpu/attention_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/share.h"
#include "kernels/numeric.h"

namespace jenga::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr float kLog2E = 1.44269504088896340736f;
constexpr int64_t kFloatBytes = sizeof(float);
constexpr int64_t kPackedFloatsPerGroup = int64_t{1} << 27;  // 512 MiB of panels at a time

// One work item: query rows of one head. Video rows share the list of their query block.
struct Item {
  int64_t head;  // batch * H + h
  int64_t first_row, rows;
  int64_t q_block;  // -1: context rows
  int64_t cost;     // units
};

class Attention {
 public:
  Attention(const BlockSparseAttentionParams& params, ParallelFor parallel_for, const AttentionTier& tier)
      : p_(params),
        parallel_for_(parallel_for),
        tier_(tier),
        nq_(ceil_div(p_.num_video, p_.q_block_size)),
        nkv_(ceil_div(p_.num_video, p_.kv_block_size)),
        num_cells_(p_.k_tail.data ? ceil_div(p_.num_video, p_.tail_block_size) : 0),
        context_rows_(round_up(p_.num_context, kContextAlignment)),
        context_units_(ceil_div(p_.num_context, kUnitKeys)),
        video_units_(ceil_div(p_.num_video, kUnitKeys)),
        tail_units_(ceil_div(num_cells_, kUnitKeys)),
        units_(context_units_ + video_units_ + tail_units_),
        value_stride_(round_up(p_.head_dim, kChannelAlignment)),
        // fp32 values whose rows fill whole vectors are read from v_carved; everything else goes through panels.
        direct_values_(p_.v_carved.dtype == DataType::kFloat32 && p_.head_dim % kChannelAlignment == 0),
        k_unit_floats_(p_.head_dim / tier.per_word * kUnitKeys),
        v_unit_floats_(kUnitKeys / tier.per_word * value_stride_) {
    make_biases();
    make_items();
  }

  void run() {
    const int64_t heads = p_.batch * p_.heads;
    const int64_t head_floats = units_ * (k_unit_floats_ + v_unit_floats_);
    const int64_t group = std::clamp<int64_t>(kPackedFloatsPerGroup / std::max<int64_t>(head_floats, 1), 1, heads);
    k_panels_ = make_scratch(group * units_ * k_unit_floats_ * kFloatBytes);
    v_panels_ = make_scratch(group * units_ * v_unit_floats_ * kFloatBytes);
    for (first_head_ = 0; first_head_ < heads; first_head_ += group) {
      const int64_t last_head = std::min(first_head_ + group, heads);
      share(parallel_for_, (last_head - first_head_) * units_, 0, [this](std::byte*, int64_t i) { pack(i); });
      group_items_.clear();
      for (const Item& item : items_) {
        if (item.head >= first_head_ && item.head < last_head) group_items_.push_back(&item);
      }
      share(parallel_for_, static_cast<int64_t>(group_items_.size()), Worker(*this, nullptr).bytes,
            [this](std::byte* scratch, int64_t i) { attend(Worker(*this, scratch), *group_items_[i]); });
    }
  }

 private:
  // What a thread needs for one item: pieces of its scratch, each on a cache line. Nothing in it can grow.
  struct Worker {
    Worker(const Attention& a, std::byte* memory) {
      const auto cut = [&](int64_t size) {
        std::byte* const piece = memory ? memory + bytes : nullptr;
        bytes += round_up(size, 64);
        return piece;
      };
      scratch = reinterpret_cast<float*>(cut(attend_scratch_floats(a.p_.head_dim) * kFloatBytes));
      tail_bias = reinterpret_cast<float*>(cut(a.tail_units_ * kUnitKeys * kFloatBytes));
      units = reinterpret_cast<KeyUnit*>(cut(a.units_ * static_cast<int64_t>(sizeof(KeyUnit))));
      kept = reinterpret_cast<uint8_t*>(cut(a.nkv_));
    }
    void push(const KeyUnit& unit) { units[num_units++] = unit; }

    int64_t bytes = 0;
    float* scratch;    // of the tier's attend
    float* tail_bias;  // [tail units, kUnitKeys]
    KeyUnit* units;    // at most all units of a head
    int64_t num_units = 0;
    uint8_t* kept;  // [nkv]
  };

  void make_biases() {
    context_bias_.assign(p_.batch * context_units_ * kUnitKeys, kMinusInfinity);
    context_mask_ = context_bias_;
    for (int64_t b = 0; b < p_.batch; ++b) {
      for (int64_t c = 0; c < p_.num_context; ++c) {
        const float bias = p_.context_bias ? p_.context_bias[b * context_rows_ + c] : 0.0f;
        context_bias_[b * context_units_ * kUnitKeys + c] = bias * kLog2E;
        context_mask_[b * context_units_ * kUnitKeys + c] = bias == kMinusInfinity ? bias : 0.0f;
      }
    }
    ragged_bias_.assign(kUnitKeys, kMinusInfinity);
    std::fill_n(ragged_bias_.begin(), p_.num_video - (video_units_ - 1) * kUnitKeys, 0.0f);
  }

  void make_items() {
    const int64_t units_per_block = p_.kv_block_size / kUnitKeys;
    for (int64_t head = 0; head < p_.batch * p_.heads; ++head) {
      for (int64_t row = 0; row < p_.num_context; row += kMaxQueryRows) {
        items_.push_back({head, row, std::min(kMaxQueryRows, p_.num_context - row), -1, units_});
      }
      for (int64_t q_block = 0; q_block < nq_; ++q_block) {
        const int64_t row = q_block * p_.q_block_size;
        items_.push_back({head, p_.num_context + row, std::min(p_.q_block_size, p_.num_video - row), q_block,
                          p_.kv_block_count[head * nq_ + q_block] * units_per_block + context_units_ + tail_units_});
      }
    }
    std::stable_sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) { return a.cost > b.cost; });
  }

  // Where unit t of a head starts in a K- or V-like tensor: [context units][video units][tail units].
  void pack(int64_t index) {
    const int64_t head = first_head_ + index / units_, t = index % units_;
    const int64_t b = head / p_.heads, h = head % p_.heads;
    PackJob job{};
    job.dtype = p_.k_carved.dtype;
    job.head_dim = p_.head_dim;
    job.k_unit = k_panel(index);
    job.v_unit = v_panel(index);
    auto read = [&](const Operand& keys, const Operand& values, int64_t row) {
      const auto at = [&](const Operand& x) {
        const int64_t offset = b * x.strides.batch + h * x.strides.head + row * x.strides.token;
        return static_cast<const char*>(x.data) + offset * element_size(x.dtype);
      };
      job.k = at(keys);
      job.v = at(values);
      job.k_stride = keys.strides.token;
      job.v_stride = values.strides.token;
    };
    if (t < context_units_) {
      read(p_.k_carved, p_.v_carved, t * kUnitKeys);
      job.rows = std::min(kUnitKeys, p_.num_context - t * kUnitKeys);
    } else if (t < context_units_ + video_units_) {
      const int64_t row = (t - context_units_) * kUnitKeys;
      read(p_.k_carved, p_.v_carved, context_rows_ + row);
      job.rows = std::min(kUnitKeys, p_.num_video - row);
      if (direct_values_) job.v_unit = nullptr;
    } else {
      const int64_t cell = (t - context_units_ - video_units_) * kUnitKeys;
      read(p_.k_tail, p_.v_tail, cell);
      job.rows = std::min(kUnitKeys, num_cells_ - cell);
    }
    tier_.pack(job);
  }

  float* k_panel(int64_t index) const { return reinterpret_cast<float*>(k_panels_.get()) + index * k_unit_floats_; }
  float* v_panel(int64_t index) const { return reinterpret_cast<float*>(v_panels_.get()) + index * v_unit_floats_; }

  KeyUnit unit(int64_t head, int64_t t, int64_t keys, const float* bias) const {
    const int64_t index = (head - first_head_) * units_ + t;
    return {k_panel(index), v_panel(index), value_stride_, keys, bias};
  }

  void push_context(Worker& worker, int64_t head, const std::vector<float>& biases) const {
    for (int64_t t = 0; t < context_units_; ++t) {
      const float* bias = biases.data() + (head / p_.heads * context_units_ + t) * kUnitKeys;
      const auto none = [](float x) { return x == 0.0f; };
      const auto masked = [](float x) { return x == kMinusInfinity; };
      if (std::all_of(bias, bias + kUnitKeys, masked)) continue;
      const int64_t keys = std::min(kUnitKeys, p_.num_context - t * kUnitKeys);
      worker.push(unit(head, t, keys, std::all_of(bias, bias + kUnitKeys, none) ? nullptr : bias));
    }
  }

  void push_video(Worker& worker, int64_t head, int64_t t) const {
    if (t >= video_units_) return;
    const int64_t keys = std::min(kUnitKeys, p_.num_video - t * kUnitKeys);
    KeyUnit entry = unit(head, context_units_ + t, keys, keys < kUnitKeys ? ragged_bias_.data() : nullptr);
    if (direct_values_) {
      const Strides& strides = p_.v_carved.strides;
      entry.v = static_cast<const float*>(p_.v_carved.data) + head / p_.heads * strides.batch +
                head % p_.heads * strides.head + (context_rows_ + t * kUnitKeys) * strides.token;
      entry.v_stride = strides.token;
    }
    worker.push(entry);
  }

  // A cell stands for its tokens with the logarithm of what they count as; the cells of kept blocks are masked out.
  void push_tail(Worker& worker, int64_t head) const {
    const int64_t cells_per_block = p_.kv_block_size / p_.tail_block_size;
    std::fill_n(worker.tail_bias, tail_units_ * kUnitKeys, kMinusInfinity);
    for (int64_t c = 0; c < num_cells_; ++c) {
      if (worker.kept[c / cells_per_block]) continue;
      if (p_.tail_bias) {
        worker.tail_bias[c] = p_.tail_bias[head * num_cells_ + c] * kLog2E;
        continue;
      }
      const int64_t tokens = std::min(p_.tail_block_size, p_.num_video - c * p_.tail_block_size);
      worker.tail_bias[c] = std::log2(static_cast<float>(tokens));
    }
    for (int64_t t = 0; t < tail_units_; ++t) {
      const float* bias = worker.tail_bias + t * kUnitKeys;
      if (std::all_of(bias, bias + kUnitKeys, [](float x) { return x == kMinusInfinity; })) continue;
      const int64_t keys = std::min(kUnitKeys, num_cells_ - t * kUnitKeys);
      worker.push(unit(head, context_units_ + video_units_ + t, keys, bias));
    }
  }

  void attend(Worker worker, const Item& item) const {
    if (item.q_block < 0) {
      push_context(worker, item.head, context_mask_);
      for (int64_t t = 0; t < video_units_; ++t) push_video(worker, item.head, t);
    } else {
      push_context(worker, item.head, context_bias_);
      std::fill_n(worker.kept, nkv_, uint8_t{0});
      const int64_t list = item.head * nq_ + item.q_block, units_per_block = p_.kv_block_size / kUnitKeys;
      for (int64_t i = 0; i < p_.kv_block_count[list]; ++i) {
        const int64_t block = p_.kv_block_index[list * p_.max_kv + i];
        worker.kept[block] = 1;
        for (int64_t t = 0; t < units_per_block; ++t) push_video(worker, item.head, block * units_per_block + t);
      }
      if (num_cells_ > 0) push_tail(worker, item.head);
    }
    tier_.attend({.params = &p_,
                  .batch = item.head / p_.heads,
                  .head = item.head % p_.heads,
                  .first_row = item.first_row,
                  .rows = item.rows,
                  .units = worker.units,
                  .num_units = worker.num_units,
                  .scratch = worker.scratch});
  }

  const BlockSparseAttentionParams& p_;
  const ParallelFor parallel_for_;
  const AttentionTier& tier_;
  const int64_t nq_, nkv_, num_cells_, context_rows_;
  const int64_t context_units_, video_units_, tail_units_, units_;
  const int64_t value_stride_;
  const bool direct_values_;
  const int64_t k_unit_floats_, v_unit_floats_;
  std::vector<float> context_bias_, context_mask_;  // [B, context units, kUnitKeys], base 2
  std::vector<float> ragged_bias_;                  // of the last video unit
  std::vector<Item> items_;
  std::vector<const Item*> group_items_;
  int64_t first_head_ = 0;
  Scratch k_panels_, v_panels_;
};

}  // namespace

void run_attention(const BlockSparseAttentionParams& params, ParallelFor parallel_for, const AttentionTier& tier) {
  if (params.batch * params.heads * (params.num_context + params.num_video) == 0) return;
  Attention(params, parallel_for, tier).run();
}

}  // namespace jenga::cpu
