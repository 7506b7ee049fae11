// Tensor -> what kernels/params.h speaks: data types, strides, and the copies that a kernel cannot do without.
#pragma once

#include <optional>

#include "csrc/ops/checks.h"
#include "kernels/params.h"
#include "kernels/value_blocks.h"

namespace jenga::ops {

inline DataType data_type(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return DataType::kFloat32;
    case ScalarType::BFloat16:
      return DataType::kBFloat16;
    case ScalarType::Half:
      return DataType::kFloat16;
    case ScalarType::Char:
      return DataType::kInt8;
    case ScalarType::Float8_e4m3fn:
      return DataType::kFloat8;
    default:
      fail("jenga: dtype must be bfloat16, float16 or float32, got ", dtype_name(type));
  }
}

// [B, H, T, D] -> element strides; of [B, H, blocks, D, 64], those of blocks.
inline Strides strides_of(const Tensor& t) { return {t.stride(0), t.stride(1), t.stride(2)}; }

// [B, H, T, D] -> what a kernel reads. The tensor must outlive it.
inline Operand operand(const Tensor& t) { return {t.const_data_ptr(), strides_of(t), data_type(t.scalar_type())}; }
inline Operand operand(const std::optional<Tensor>& t) { return t ? operand(*t) : Operand{}; }

// A plain array that starts on 16 bytes. contiguous() returns the tensor itself where it is so, wherever it starts.
inline Tensor as_array(const Tensor& t) {
  Tensor array = torch::stable::contiguous(t);
  const bool misaligned = array.is_cuda() && reinterpret_cast<uintptr_t>(array.const_data_ptr()) % 16 != 0;
  return misaligned ? torch::stable::clone(array) : array;
}

// Kernels take any strides with a contiguous last dim; CUDA kernels load 16 bytes at a time, so there every row must
// start on a 16-byte boundary too. What does not is copied: contiguous() alone would return a contiguous tensor whose
// first row is off that boundary as it is.
inline Tensor with_loadable_rows(const Tensor& t) {
  bool loadable = t.stride(t.dim() - 1) == 1;
  if (t.is_cuda()) {
    const int64_t bytes = static_cast<int64_t>(t.element_size());
    loadable = loadable && reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0;
    for (int64_t d = 0; d + 1 < t.dim(); ++d) loadable = loadable && (t.size(d) == 1 || t.stride(d) * bytes % 16 == 0);
  }
  return loadable ? t : as_array(t);
}

inline std::optional<Tensor> as_array(const std::optional<Tensor>& t) {
  return t ? std::optional(as_array(*t)) : std::nullopt;
}

inline Tensor new_tensor(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType type) {
  return torch::stable::new_empty(like, torch::headeronly::IntHeaderOnlyArrayRef(sizes.begin(), sizes.size()), type);
}

// [B, H, blocks, D, 64] of e4m3 values of so many rows.
inline Tensor new_value_blocks(const Tensor& like, int64_t rows) {
  return new_tensor(like, {like.size(0), like.size(1), ceil_div(rows, kValueBlockKeys), like.size(3), kValueBlockKeys},
                    ScalarType::Float8_e4m3fn);
}

template <typename T>
const T* data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

template <typename T>
const T* data_or_null(const std::optional<Tensor>& t) {
  return t ? data<T>(*t) : nullptr;
}

template <typename T>
T* mutable_data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

}  // namespace jenga::ops
