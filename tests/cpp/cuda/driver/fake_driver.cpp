// A driver with one imaginary GPU, under the real one's file name: it takes every code that begins as a fatbin does,
// knows every kernel name, keeps the rules about contexts and shared memory, and tells a listener of every launch.
#include "tests/cpp/cuda/driver/fake_driver.h"

#include <cstdint>
#include <cstring>
#include <list>
#include <string>
#include <utility>

namespace {

constexpr uint32_t kFatbinMagic = 0xBA55ED50;
constexpr int kSharedByDefault = 48 * 1024;

struct Kernel {
  std::string name;
  int shared_bytes = kSharedByDefault;
};

FakeDevice device{8, 0, 108, 166912, 167936, 1024};
void (*listener)(const FakeLaunch*) = nullptr;
std::list<Kernel> kernels;
std::string failing;
CUresult failure = CUDA_SUCCESS;
int loads = 0, retained = 0;
thread_local int pushed = 0;
thread_local bool current = true;

bool fails(const char* function, CUresult* error) {
  if (failing != function) return false;
  failing.clear();
  *error = failure;
  return true;
}

bool has_context() { return current || pushed > 0; }

}  // namespace

#define FAIL_IF_TOLD()                       \
  do {                                       \
    CUresult told = CUDA_SUCCESS;            \
    if (fails(__func__, &told)) return told; \
  } while (false)

void fake_set_device(const FakeDevice* wanted) { device = *wanted; }
void fake_set_listener(void (*wanted)(const FakeLaunch*)) { listener = wanted; }
void fake_fail_next(const char* function, CUresult error) {
  failing = function;
  failure = error;
}
int fake_pushed() { return pushed; }
int fake_retained() { return retained; }
void fake_set_current(bool wanted) { current = wanted; }
int fake_loads() { return loads; }

JENGA_FAKE_API CUresult cuInit(unsigned) { return CUDA_SUCCESS; }

JENGA_FAKE_API CUresult cuGetErrorName(CUresult error, const char** name) {
  *name = error == CUDA_ERROR_INVALID_IMAGE ? "CUDA_ERROR_INVALID_IMAGE" : "CUDA_ERROR_OF_SOME_KIND";
  return CUDA_SUCCESS;
}

JENGA_FAKE_API CUresult cuGetErrorString(CUresult, const char** text) {
  *text = "said the fake driver";
  return CUDA_SUCCESS;
}

JENGA_FAKE_API CUresult cuDeviceGet(CUdevice* found, int ordinal) {
  *found = ordinal;
  return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

JENGA_FAKE_API CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = device.major;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = device.minor;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = device.processors;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      *value = device.shared_per_block;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
      *value = device.shared_per_processor;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK:
      *value = device.shared_reserved;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

JENGA_FAKE_API CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  *context = reinterpret_cast<CUcontext>(&device);
  ++retained;
  return CUDA_SUCCESS;
}

JENGA_FAKE_API CUresult cuDevicePrimaryCtxRelease(CUdevice) {
  --retained;
  return CUDA_SUCCESS;
}

JENGA_FAKE_API CUresult cuCtxGetDevice(CUdevice* found) {
  *found = 0;
  return has_context() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

JENGA_FAKE_API CUresult cuCtxPushCurrent(CUcontext context) {
  if (context != reinterpret_cast<CUcontext>(&device)) return CUDA_ERROR_INVALID_CONTEXT;
  ++pushed;
  return CUDA_SUCCESS;
}

JENGA_FAKE_API CUresult cuCtxPopCurrent(CUcontext* context) {
  *context = reinterpret_cast<CUcontext>(&device);
  --pushed;
  return CUDA_SUCCESS;
}

JENGA_FAKE_API CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
  thread_local CUstreamCaptureMode now = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::swap(*mode, now);
  return CUDA_SUCCESS;
}

JENGA_FAKE_API CUresult cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option*, void**, unsigned,
                                          CUlibraryOption*, void**, unsigned) {
  FAIL_IF_TOLD();
  uint32_t magic = 0;
  std::memcpy(&magic, code, sizeof(magic));
  if (magic != kFatbinMagic || reinterpret_cast<uintptr_t>(code) % 8 != 0) return CUDA_ERROR_INVALID_IMAGE;
  *library = static_cast<CUlibrary>(const_cast<void*>(code));
  ++loads;
  return CUDA_SUCCESS;
}

JENGA_FAKE_API CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary, const char* name) {
  FAIL_IF_TOLD();
  kernels.push_back({name});
  *kernel = reinterpret_cast<CUkernel>(&kernels.back());
  return CUDA_SUCCESS;
}

JENGA_FAKE_API CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice) {
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value > device.shared_per_block)
    return CUDA_ERROR_INVALID_VALUE;
  reinterpret_cast<Kernel*>(kernel)->shared_bytes = value;
  return CUDA_SUCCESS;
}

JENGA_FAKE_API CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters, void**) {
  FAIL_IF_TOLD();
  const Kernel& kernel = *reinterpret_cast<Kernel*>(function);
  if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
  if (config->blockDimX > 1024 || static_cast<int>(config->sharedMemBytes) > kernel.shared_bytes)
    return CUDA_ERROR_INVALID_VALUE;
  const FakeLaunch launch{kernel.name.c_str(), *config, parameters[0]};
  if (listener != nullptr) listener(&launch);
  return CUDA_SUCCESS;
}

JENGA_FAKE_API CUresult cuMemsetD32Async(CUdeviceptr target, unsigned value, size_t count, CUstream stream) {
  const CUdeviceptr words[2] = {target, value};
  FakeLaunch launch{"memset", {}, words};
  launch.config.gridDimX = static_cast<unsigned>(count);
  launch.config.hStream = stream;
  if (listener != nullptr) listener(&launch);
  return has_context() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

// A map says in plain words what it is of.
JENGA_FAKE_API CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank,
                                               void* address, const cuuint64_t* sizes, const cuuint64_t* strides,
                                               const cuuint32_t* box, const cuuint32_t*, CUtensorMapInterleave,
                                               CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                                               CUtensorMapFloatOOBfill) {
  if (rank != 4 || reinterpret_cast<uintptr_t>(map) % 64 != 0 || reinterpret_cast<uintptr_t>(address) % 16 != 0)
    return CUDA_ERROR_INVALID_VALUE;
  const cuuint64_t words[] = {reinterpret_cast<uintptr_t>(address),
                              static_cast<cuuint64_t>(type),
                              static_cast<cuuint64_t>(swizzle),
                              sizes[0],
                              sizes[1],
                              sizes[2],
                              sizes[3],
                              strides[0],
                              strides[1],
                              strides[2],
                              box[0],
                              box[1],
                              box[2] * box[3]};
  static_assert(sizeof(words) <= sizeof(CUtensorMap));
  std::memset(map, 0, sizeof(*map));
  std::memcpy(map, words, sizeof(words));
  return CUDA_SUCCESS;
}
