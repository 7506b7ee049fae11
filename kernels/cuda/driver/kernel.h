// Kernels by name, with their argument in the type. One declaration serves two compilers:
//
//   JENGA_KERNEL(code, name, Arguments);
//
// nvcc reads the prototype of a kernel that takes one Arguments by value; a definition with another argument does not
// compile. The host compiler reads a handle of that name, whose launch takes an Arguments and nothing else. `code` is
// the file that defines the kernel, with its folder: sm80_attention_64 for sm80/attention_64.cu; its machine code is
// embedded under that name (cmake/JengaCuda.cmake). Names are those of C, one kernel each in the whole library; they
// are declared and defined in namespace jenga::cuda.
#pragma once

#ifdef __CUDACC__

#define JENGA_KERNEL(code, name, Arguments) extern "C" __global__ void name(const __grid_constant__ Arguments)
#define JENGA_KERNEL_PAIR(code, name, Arguments) \
  JENGA_KERNEL(code, name##_bf16, Arguments);    \
  JENGA_KERNEL(code, name##_fp16, Arguments)

// bounds: of the launch, in parentheses; then the function that is the kernel's body, with its template arguments.
#define JENGA_DEFINE_KERNEL(name, Arguments, bounds, ...)                                                 \
  extern "C" __global__ void __launch_bounds__ bounds name(const __grid_constant__ Arguments arguments) { \
    __VA_ARGS__(arguments);                                                                               \
  }

// Both kernels of a pair. body: a function template, given each 16-bit type and then what follows.
#define JENGA_DEFINE_KERNEL_PAIR(name, Arguments, bounds, body, ...)                                  \
  JENGA_DEFINE_KERNEL(name##_bf16, Arguments, bounds, body<__nv_bfloat16 __VA_OPT__(, ) __VA_ARGS__>) \
  JENGA_DEFINE_KERNEL(name##_fp16, Arguments, bounds, body<__half __VA_OPT__(, ) __VA_ARGS__>)

#else

#include <cuda.h>

#include <cstdint>

#include "kernels/params.h"

namespace jenga::cuda {

struct LaunchShape {
  int64_t grid;  // thread blocks; none: nothing is launched
  int threads;   // of a thread block
  int64_t shared_bytes = 0;
};

// Machine code of one .cu file for all architectures (a fatbin), and the kernels that were taken from it.
class Code {
 public:
  constexpr explicit Code(const unsigned char* bytes) : bytes_(bytes) {}
  // Loads the code at the first call in the process.
  CUresult find(const char* name, CUkernel* kernel);

 private:
  const unsigned char* bytes_;
  CUlibrary library_ = nullptr;
};

class KernelHandle {
 public:
  constexpr KernelHandle(Code& code, const char* name) : code_(code), name_(name) {}
  CUresult launch(const LaunchShape& shape, CUstream stream, void* argument);

 private:
  CUresult load(CUkernel* kernel);

  Code& code_;
  const char* name_;
  CUkernel kernel_ = nullptr;
};

template <class Arguments>
class Kernel {
 public:
  constexpr Kernel(Code& code, const char* name) : handle_(code, name) {}
  // Queued on the stream, in the current context. Returns CUDA_ERROR_INVALID_VALUE where the grid is too large.
  CUresult launch(const LaunchShape& shape, CUstream stream, const Arguments& arguments) {
    return handle_.launch(shape, stream, const_cast<Arguments*>(&arguments));
  }

 private:
  KernelHandle handle_;
};

// The kernels of one name for both 16-bit types.
template <class Arguments>
struct KernelPair {
  Kernel<Arguments>&bf16, &fp16;
  // Returns CUDA_ERROR_NOT_SUPPORTED for another type.
  CUresult launch(DataType dtype, const LaunchShape& shape, CUstream stream, const Arguments& arguments) const {
    if (dtype == DataType::kBFloat16) return bf16.launch(shape, stream, arguments);
    if (dtype == DataType::kFloat16) return fp16.launch(shape, stream, arguments);
    return CUDA_ERROR_NOT_SUPPORTED;
  }
};

}  // namespace jenga::cuda

#define JENGA_KERNEL(code, name, Arguments) \
  extern Code code##_code;                  \
  inline constinit Kernel<Arguments> name(code##_code, #name)
#define JENGA_KERNEL_PAIR(code, name, Arguments) \
  JENGA_KERNEL(code, name##_bf16, Arguments);    \
  JENGA_KERNEL(code, name##_fp16, Arguments);    \
  inline constexpr KernelPair<Arguments> name { name##_bf16, name##_fp16 }

#endif
