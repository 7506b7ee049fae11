// Which instruction sets this machine and its operating system have. CPUID is asked here, and not through
// __builtin_cpu_supports, which the compiler of the Windows build leaves without data.
#pragma once

#include <string_view>

namespace jenga::cpu {

// Names as in the compiler's flags: avx2, fma, f16c, avx512f, avx512bw, avx512dq, avx512vl, avx512bf16. False for any
// other name, and on machines that are no x86.
bool has_feature(std::string_view name);

}  // namespace jenga::cpu
