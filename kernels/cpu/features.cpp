// Source of leaves and bits: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID; volume 1,
// 14.3 and 15.2 for what the operating system must save.
#include "kernels/cpu/features.h"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace jenga::cpu {

#if defined(__x86_64__)
namespace {

enum Register { kEax, kEbx, kEcx };
constexpr uint64_t kYmm = 0x6;     // XMM and YMM state
constexpr uint64_t kZmm = 0xe6;    // and masks, the upper halves of ZMM0-15, ZMM16-31
constexpr uint32_t kOsxsave = 27;  // ECX of leaf 1: XGETBV may be asked

struct Bit {
  std::string_view name;
  uint32_t leaf, subleaf;
  Register where;
  uint32_t bit;
  uint64_t saved;  // state that the operating system must save
};

constexpr Bit kBits[] = {
    {"fma", 1, 0, kEcx, 12, kYmm},      {"f16c", 1, 0, kEcx, 29, kYmm},      {"avx2", 7, 0, kEbx, 5, kYmm},
    {"avx512f", 7, 0, kEbx, 16, kZmm},  {"avx512dq", 7, 0, kEbx, 17, kZmm},  {"avx512bw", 7, 0, kEbx, 30, kZmm},
    {"avx512vl", 7, 0, kEbx, 31, kZmm}, {"avx512bf16", 7, 1, kEax, 5, kZmm},
};

bool is_set(uint32_t leaf, uint32_t subleaf, Register where, uint32_t bit) {
  uint32_t registers[4] = {};
  if (!__get_cpuid_count(leaf, subleaf, &registers[0], &registers[1], &registers[2], &registers[3])) return false;
  return registers[where] >> bit & 1;
}

uint64_t saved_state() {
  if (!is_set(1, 0, kEcx, kOsxsave)) return 0;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

}  // namespace

bool has_feature(std::string_view name) {
  for (const Bit& one : kBits) {
    if (one.name == name)
      return (saved_state() & one.saved) == one.saved && is_set(one.leaf, one.subleaf, one.where, one.bit);
  }
  return false;
}
#else
bool has_feature(std::string_view) { return false; }
#endif

}  // namespace jenga::cpu
