// What a test tells the fake driver (fake_driver.cpp) and hears from it.
#pragma once

#include <cuda.h>

#ifdef _WIN32
#ifdef JENGA_FAKE_DRIVER
#define JENGA_FAKE_API extern "C" __declspec(dllexport)
#else
#define JENGA_FAKE_API extern "C" __declspec(dllimport)
#endif
#else
#define JENGA_FAKE_API extern "C" __attribute__((visibility("default")))
#endif

struct FakeDevice {
  int major, minor, processors;
  int shared_per_block, shared_per_processor, shared_reserved;  // bytes
};

// One launch; `argument` may be read until the listener returns.
struct FakeLaunch {
  const char* kernel;
  CUlaunchConfig config;
  const void* argument;
};

JENGA_FAKE_API void fake_set_device(const FakeDevice* device);
JENGA_FAKE_API void fake_set_listener(void (*listener)(const FakeLaunch*));
// What the next call of the driver gives instead of working, once.
JENGA_FAKE_API void fake_fail_next(const char* function, CUresult error);
// Contexts that this thread has pushed and not popped, and references to the primary context.
JENGA_FAKE_API int fake_pushed();
JENGA_FAKE_API int fake_retained();
// Makes the primary context current on this thread, as CUDA's runtime does, or takes it away.
JENGA_FAKE_API void fake_set_current(bool current);
JENGA_FAKE_API int fake_loads();
