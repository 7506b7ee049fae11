// How text becomes an exception of torch on Windows: c10's own check function throws it. Looked up by name, so that a
// torch without it fails at the first error and not when the library is loaded.
#include <windows.h>

#include <cstdio>
#include <cstdlib>

#include "csrc/ops/boxed.h"

namespace jenga::ops {

void raise_in_torch(const char* text) {
  // void c10::detail::torchCheckFail(const char* function, const char* file, unsigned line, const char* message)
  using Fail = void (*)(const char*, const char*, uint32_t, const char*);
  const HMODULE c10 = GetModuleHandleA("c10.dll");
  const auto fail = reinterpret_cast<Fail>(
      reinterpret_cast<void*>(c10 ? GetProcAddress(c10, "?torchCheckFail@detail@c10@@YAXPEBD0I0@Z") : nullptr));
  if (fail) fail("jenga", "jenga", 0, text);
  std::fprintf(stderr, "%s\n", text);
  std::abort();
}

}  // namespace jenga::ops
