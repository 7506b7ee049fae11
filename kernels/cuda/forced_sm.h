// JENGA_FORCE_SM=80 (or 90) leaves the kernels of one architecture, to test and time them on a newer GPU.
#pragma once

#include <cstdlib>
#include <string_view>

namespace jenga::cuda {

// Unset or empty leaves all.
inline bool is_allowed(std::string_view sm) {
  const char* const forced = std::getenv("JENGA_FORCE_SM");
  return forced == nullptr || *forced == 0 || sm == forced;
}

}  // namespace jenga::cuda
