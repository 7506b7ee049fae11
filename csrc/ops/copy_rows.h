// copy_rows: checks and kernel parameters. Nothing is made: the targets are written.
#pragma once

#include <string>
#include <vector>

#include "csrc/ops/convert.h"

namespace jenga::ops {

struct CopyRowsCall {
  CopyRowsParams params;
  std::vector<Tensor> targets, sources;  // keep alive what params points to

  void outputs() const {}
};

// Reads as targets[1].
inline std::string numbered(const char* name, size_t i) {
  std::string text = name;
  text += '[';
  text += std::to_string(i);
  text += ']';
  return text;
}

// [B, H, S, D] -> byte strides.
inline Strides byte_strides_of(const Tensor& t) {
  const auto bytes = static_cast<int64_t>(t.element_size());
  return {t.stride(0) * bytes, t.stride(1) * bytes, t.stride(2) * bytes};
}

// Rows of whole 16 bytes that start on 16 bytes. written: and no two of them are the same memory.
inline void check_rows(const char* op, const char* name, const Tensor& t, bool written) {
  const auto bytes = static_cast<int64_t>(t.element_size());
  JENGA_REQUIRE(t.stride(3) == 1 && t.size(3) * bytes % 16 == 0, op, ": ", name,
                " must have contiguous rows of a multiple of 16 bytes, got ", t.size(3) * bytes, " bytes and stride ",
                t.stride(3), "; take torch's copy_");
  const auto offset = static_cast<int64_t>(reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16);
  JENGA_REQUIRE(offset == 0, op, ": ", name, " must start on 16 bytes, got ", offset,
                " bytes behind them; take torch's copy_");
  for (int64_t d = 0; d < 3; ++d) {
    const int64_t stride = t.stride(d) * bytes;
    if (t.size(d) == 1) continue;
    JENGA_REQUIRE(stride % 16 == 0, op, ": ", name, " must have strides of a multiple of 16 bytes, got ", stride,
                  " bytes in dimension ", d, "; take torch's copy_");
    JENGA_REQUIRE(!written || stride != 0, op, ": ", name,
                  " must have memory of its own for every row, got stride 0 in dimension ", d);
  }
}

inline CopyRowsCall make_copy_rows(std::vector<Tensor> targets, std::vector<Tensor> sources) {
  constexpr const char* kOp = "copy_rows";
  const size_t pairs = targets.size();
  JENGA_REQUIRE(pairs >= 1 && pairs <= kMostRowCopies, kOp, ": targets must be 1 to ", kMostRowCopies, " tensors, got ",
                pairs);
  JENGA_REQUIRE(sources.size() == pairs, kOp, ": sources must be as many as targets (", pairs, "), got ",
                sources.size());
  const Tensor& first = targets[0];
  JENGA_REQUIRE(first.dim() == 4, kOp, ": targets[0] must have 4 dimensions [B, H, S, D], got shape ", Shape(first));
  const int64_t batch = first.size(0), heads = first.size(1), tokens = first.size(2), width = first.size(3);
  CopyRowsCall call{.params = {}, .targets = std::move(targets), .sources = std::move(sources)};
  call.params.num_pairs = static_cast<int64_t>(pairs);
  call.params.batch = batch;
  call.params.heads = heads;
  call.params.tokens = tokens;
  call.params.row_bytes = width * static_cast<int64_t>(call.targets[0].element_size());
  for (size_t i = 0; i < pairs; ++i) {
    const Tensor &target = call.targets[i], &source = call.sources[i];
    const std::string to = numbered("targets", i), from = numbered("sources", i);
    check_like(kOp, to.c_str(), target, "targets[0]", call.targets[0], {batch, heads, tokens, width});
    check_like(kOp, from.c_str(), source, "targets[0]", call.targets[0], {batch, heads, tokens, width});
    check_rows(kOp, to.c_str(), target, true);
    check_rows(kOp, from.c_str(), source, false);
    call.params.pairs[i] = {source.const_data_ptr(), target.mutable_data_ptr(), byte_strides_of(source),
                            byte_strides_of(target)};
  }
  return call;
}

}  // namespace jenga::ops
