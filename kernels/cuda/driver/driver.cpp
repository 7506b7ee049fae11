#include "kernels/cuda/driver/driver.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace jenga::cuda {
namespace {

#ifdef _WIN32
constexpr const char* kLibrary = "nvcuda.dll";
HMODULE open_library() { return LoadLibraryA(kLibrary); }
void* find_function(HMODULE library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(library, name));
}
#else
constexpr const char* kLibrary = "libcuda.so.1";
void* open_library() { return dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL); }
void* find_function(void* library, const char* name) { return dlsym(library, name); }
#endif

#define JENGA_TEXT(name) #name

// What the process knows of its driver, for as long as it lives.
struct Lookup {
  Driver functions;
  std::string refusal;

  Lookup() {
    const auto library = open_library();
    if (library == nullptr) {
      refusal = std::string("an NVIDIA driver must be installed, got no ") + kLibrary + "; install one";
      return;
    }
#define JENGA_FIND_FUNCTION(name) find(library, JENGA_TEXT(name), functions.name);
    JENGA_DRIVER_FUNCTIONS(JENGA_FIND_FUNCTION)
#undef JENGA_FIND_FUNCTION
    if (!refusal.empty()) return;
    if (const CUresult error = functions.cuInit(0))
      refusal = "the NVIDIA driver must start, got error " + std::to_string(error) + "; look whether nvidia-smi runs";
  }

  template <class Library, class Function>
  void find(Library library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(find_function(library, name));
    if (function == nullptr && refusal.empty())
      refusal = std::string("the NVIDIA driver must be one for CUDA 12.0 or newer, got one without ") + name +
                "; update the driver";
  }
};

const Lookup& lookup() {
  static const Lookup found;
  return found;
}

}  // namespace

const Driver* find_driver() { return lookup().refusal.empty() ? &lookup().functions : nullptr; }

const std::string& driver_refusal() { return lookup().refusal; }

std::string error_text(CUresult error) {
  const Driver* const driver = find_driver();
  if (driver == nullptr) return driver_refusal();
  const char *name = nullptr, *text = nullptr;
  if (driver->cuGetErrorName(error, &name) != CUDA_SUCCESS || driver->cuGetErrorString(error, &text) != CUDA_SUCCESS)
    return "error " + std::to_string(error);
  return std::string(name) + ": " + text;
}

}  // namespace jenga::cuda
