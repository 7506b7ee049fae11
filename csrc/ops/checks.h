// Checks every operator shares, for CPU and CUDA alike. Error text: `<op>: <argument> must <condition>, got <value>`.
// Plain std::runtime_error, because STD_TORCH_CHECK prints file names; it arrives in Python as RuntimeError.
// Everything is checked before a kernel starts: an exception inside parallel_for would lose its text.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>

#include "kernels/params.h"

// The message is only built when the condition fails.
#define JENGA_REQUIRE(condition, ...)  \
  do {                                 \
    if (!(condition)) [[unlikely]]     \
      ::jenga::ops::fail(__VA_ARGS__); \
  } while (0)

namespace jenga::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline const char* dtype_name(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Half:
      return "float16";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Char:
      return "int8";
    case ScalarType::Float8_e4m3fn:
      return "float8_e4m3fn";
    case ScalarType::Short:
      return "int16";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Bool:
      return "bool";
    default:
      return torch::headeronly::toString(type);
  }
}

// The parts of an error text. No streams: where a linker put a second libstdc++ into a library, a number written to a
// stream ends the process (seen on a machine whose compiler links it so).
inline std::string text_of(const std::string& text) { return text; }
template <std::integral Number>
std::string text_of(Number number) {
  return std::to_string(number);
}
template <std::floating_point Number>
std::string text_of(Number number) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", static_cast<double>(number));
  return text;
}

// Reads as [2, 4, 128, 64].
struct Shape {
  const int64_t* sizes;
  size_t rank;
  explicit Shape(const Tensor& t) : sizes(t.sizes().data()), rank(t.sizes().size()) {}
  Shape(const int64_t* sizes, size_t rank) : sizes(sizes), rank(rank) {}
};
inline std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.rank; ++i) text += (i ? ", " : "") + std::to_string(shape.sizes[i]);
  return text + "]";
}

// Reads as cpu, cuda:1.
struct Device {
  const Tensor& tensor;
};
inline std::string text_of(const Device& device) {
  if (device.tensor.is_cuda()) return "cuda:" + std::to_string(device.tensor.get_device_index());
  return device.tensor.is_cpu() ? "cpu" : "another device";
}

template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw std::runtime_error((std::string() + ... + text_of(parts)));
}

// The stable ABI shows no requires_grad. An alias of a tensor is a leaf exactly when no gradient flows through it.
inline bool needs_grad(const Tensor& t) {
  if (!aoti_torch_grad_mode_is_enabled()) return false;
  StableIValue stack[1] = {torch::stable::detail::from(t)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::alias", "", stack, TORCH_ABI_VERSION));
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::is_leaf", "", stack, TORCH_ABI_VERSION));
  return !torch::stable::detail::to<bool>(stack[0]);
}

inline void check_no_grad(const char* op, const char* name, const Tensor& t) {
  JENGA_REQUIRE(!needs_grad(t), op, ": ", name,
                " must not require grad, got requires_grad=True; run under torch.no_grad()");
}

inline void check_dtype(const char* op, const char* name, const Tensor& t, ScalarType expected) {
  JENGA_REQUIRE(t.scalar_type() == expected, op, ": ", name, " must be ", dtype_name(expected), ", got ",
                dtype_name(t.scalar_type()));
}

inline void check_shape(const char* op, const char* name, const Tensor& t, std::initializer_list<int64_t> expected) {
  bool same = t.dim() == static_cast<int64_t>(expected.size());
  for (size_t i = 0; same && i < expected.size(); ++i) same = t.size(i) == expected.begin()[i];
  JENGA_REQUIRE(same, op, ": ", name, " must have shape ", Shape(expected.begin(), expected.size()), ", got ",
                Shape(t));
}

inline void check_device(const char* op, const char* name, const Tensor& t, const char* anchor_name,
                         const Tensor& anchor) {
  const bool same = t.is_cpu() ? anchor.is_cpu()
                               : t.is_cuda() && anchor.is_cuda() && t.get_device_index() == anchor.get_device_index();
  JENGA_REQUIRE(same, op, ": ", name, " must be on the device of ", anchor_name, " (", Device{anchor}, "), got ",
                Device{t});
}

// A tensor that must be on the device of another and have a given dtype and shape.
inline void check_beside(const char* op, const char* name, const Tensor& t, const char* anchor_name,
                         const Tensor& anchor, ScalarType type, std::initializer_list<int64_t> shape) {
  check_device(op, name, t, anchor_name, anchor);
  check_dtype(op, name, t, type);
  check_shape(op, name, t, shape);
  check_no_grad(op, name, t);
}

// A tensor that must match another in device and in dtype and have a given shape.
inline void check_like(const char* op, const char* name, const Tensor& t, const char* anchor_name, const Tensor& anchor,
                       std::initializer_list<int64_t> shape) {
  check_beside(op, name, t, anchor_name, anchor, anchor.scalar_type(), shape);
}

inline void check_head_dim(const char* op, const char* name, int64_t head_dim) {
  JENGA_REQUIRE(head_dim >= 8 && head_dim % 8 == 0 && head_dim <= kMaxHeadDim, op, ": ", name,
                " must have a head dim that is a multiple of 8 from 8 to ", kMaxHeadDim, ", got ", head_dim);
}

// int8 codes are read 16 at a time.
inline void check_int8_head_dim(const char* op, const char* name, int64_t head_dim) {
  JENGA_REQUIRE(head_dim % 16 == 0 && head_dim <= kMaxInt8HeadDim, op, ": ", name,
                " must have a head dim that is a multiple of 16 up to ", kMaxInt8HeadDim, " for int8 keys, got ",
                head_dim, "; take 16-bit keys");
}

inline void check_fp8_head_dim(const char* op, const char* name, int64_t head_dim) {
  JENGA_REQUIRE(head_dim == kFloat8HeadDim, op, ": ", name, " must have a head dim of ", kFloat8HeadDim,
                " for e4m3 values, got ", head_dim, "; take 16-bit values");
}

// The tensor whose shape and dtype all others follow: [B, H, S, D], none of them zero.
inline void check_attention_tensor(const char* op, const char* name, const Tensor& t) {
  JENGA_REQUIRE(t.dim() == 4, op, ": ", name, " must have 4 dimensions [B, H, S, D], got shape ", Shape(t));
  JENGA_REQUIRE(t.numel() > 0, op, ": ", name, " must not be empty, got shape ", Shape(t));
  const ScalarType type = t.scalar_type();
  if (t.is_cuda()) {
    JENGA_REQUIRE(type == ScalarType::BFloat16 || type == ScalarType::Half, op, ": ", name,
                  " must be bfloat16 or float16 on CUDA, got ", dtype_name(type));
  } else {
    JENGA_REQUIRE(type == ScalarType::BFloat16 || type == ScalarType::Half || type == ScalarType::Float, op, ": ", name,
                  " must be bfloat16, float16 or float32, got ", dtype_name(type));
  }
  check_head_dim(op, name, t.size(3));
  check_no_grad(op, name, t);
}

inline void check_q_block_size(const char* op, int64_t size, bool cuda) {
  JENGA_REQUIRE(size == 128 || (size == 64 && !cuda), op, ": q_block_size must be ", cuda ? "128" : "64 or 128",
                ", got ", size);
}

inline void check_kv_block_size(const char* op, int64_t size) {
  JENGA_REQUIRE(size == 64 || size == 128, op, ": kv_block_size must be 64 or 128, got ", size);
}

// The cells whose means select_blocks scores; 0: none, where nothing is to be selected.
inline void check_cell_size(const char* op, const char* name, int64_t size) {
  const bool known = size == 0 || size == 8 || size == 16 || size == 32 || size == 64 || size == 128;
  JENGA_REQUIRE(known, op, ": ", name, " must be 0, 8, 16, 32, 64 or 128, got ", size);
}

inline void check_score_cells(const char* op, const char* name, int64_t cells) {
  const bool known = cells == 1 || cells == 2 || cells == 4 || cells == 8;
  JENGA_REQUIRE(known, op, ": ", name, " must be 1, 2, 4 or 8, got ", cells);
}

inline void check_tail_block_size(const char* op, int64_t size, int64_t kv_block_size) {
  const bool known = size == 0 || size == 32 || size == 64 || size == 128;
  JENGA_REQUIRE(known && size <= kv_block_size, op,
                ": tail_block_size must be 0, 32, 64 or 128 and at most kv_block_size (", kv_block_size, "), got ",
                size);
}

inline void check_num_context(const char* op, int64_t num_context, int64_t tokens) {
  JENGA_REQUIRE(num_context >= 0 && num_context < tokens, op, ": num_context must be at least 0 and less than the ",
                tokens, " tokens of q, got ", num_context);
}

inline void check_softmax_scale(const char* op, double scale) {
  JENGA_REQUIRE(std::isfinite(scale) && scale > 0, op, ": softmax_scale must be finite and positive, got ", scale);
}

// int32 [S]. On the CPU also that it is a permutation: a wrong entry would read or leave foreign memory.
void check_token_index(const char* op, const Tensor& token_index, const Tensor& q, int64_t tokens);

// float32 [B, P], or none. On the CPU also that it is finite or -inf, and -inf from column num_context on: the rows of
// the gap between context and video are no tokens and must stay out of the softmax.
void check_context_bias(const char* op, const std::optional<Tensor>& bias, const Tensor& q, int64_t num_context);

// Block lists by their form: index int32 [B, H, nq, max_kv], and with it count int32 [B, H, nq].
void check_list_index(const char* op, const Tensor& index);
void check_list_shapes(const char* op, const Tensor& index, const Tensor& count, int64_t batch, int64_t heads,
                       int64_t num_q, int64_t num_kv);

// int32 lists. On the CPU also counts in range and listed blocks ascending in [0, num_kv_blocks).
void check_block_lists(const char* op, const Tensor& index, const Tensor& count, int64_t num_kv_blocks);

}  // namespace jenga::ops
