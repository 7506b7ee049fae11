// JENGA_BOX(&function): what an operator is registered with. It is torch's TORCH_BOX, but on Windows.
//
// There this library is made by another compiler than torch, and the exceptions of one cannot be caught by the other.
// So an exception ends inside this library, and its text is raised anew by torch itself.
#pragma once

#include <torch/csrc/stable/library.h>

#ifndef _WIN32
#define JENGA_BOX(function) TORCH_BOX(function)
#else

#include <cstdint>
#include <exception>
#include <string>

#define JENGA_BOX(function) (::jenga::ops::contained<TORCH_BOX(function)>)

namespace jenga::ops {

// Throws torch's own exception with this text. Ends the process where this torch has no such entry point.
[[noreturn]] void raise_in_torch(const char* text);

template <void (*boxed)(StableIValue*, uint64_t, uint64_t)>
void contained(StableIValue* stack, uint64_t num_args, uint64_t num_outputs) {
  // Not on this frame: torch's exception passes it without running destructors.
  static thread_local std::string text;
  try {
    boxed(stack, num_args, num_outputs);
    return;
  } catch (const std::exception& error) {
    text = error.what();
  } catch (...) {
    text = "jenga: an operator failed without saying why";
  }
  raise_in_torch(text.c_str());
}

}  // namespace jenga::ops
#endif
