// Gates and choice of the CPU tiers. A gate lists what kernels/cpu/CMakeLists.txt compiles the tier with, nothing else.
#include "kernels/cpu/dispatch.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "kernels/cpu/features.h"
#include "kernels/cpu/tiers.h"

namespace jenga::cpu {
namespace {

#if defined(__x86_64__)
constexpr std::string_view kAvx2[] = {"avx2", "fma", "f16c"};
constexpr std::string_view kAvx512[] = {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"};
constexpr std::string_view kAvx512Bf16[] = {"avx2",     "fma",      "f16c",     "avx512f",
                                            "avx512bw", "avx512dq", "avx512vl", "avx512bf16"};
constexpr const KernelTable* kTables[] = {&avx512_bf16_table, &avx512_table, &avx2_table, &generic_table};
#else
constexpr const KernelTable* kTables[] = {&generic_table};
#endif

std::span<const std::string_view> gate_of(std::string_view isa) {
#if defined(__x86_64__)
  if (isa == "avx2") return kAvx2;
  if (isa == "avx512") return kAvx512;
  if (isa == "avx512_bf16") return kAvx512Bf16;
#endif
  (void)isa;
  return {};
}

bool all_present(std::span<const std::string_view> gate) { return std::all_of(gate.begin(), gate.end(), has_feature); }

std::string usable_names() {
  std::string names;
  for (const KernelTable* table : kTables) {
    if (table->supported()) names += (names.empty() ? "" : ", ") + std::string(table->isa);
  }
  return names;
}

}  // namespace

bool generic_supported() { return true; }
bool avx2_supported() { return all_present(gate_of("avx2")); }
bool avx512_supported() { return all_present(gate_of("avx512")); }
bool avx512_bf16_supported() { return all_present(gate_of("avx512_bf16")); }

std::string gate_flags(std::string_view isa) {
  std::string flags;
  for (std::string_view feature : gate_of(isa)) flags += (flags.empty() ? "-m" : " -m") + std::string(feature);
  return flags;
}

std::span<const KernelTable* const> kernel_tables() { return kTables; }

const KernelTable& live_table() {
  const char* const forced = std::getenv("JENGA_FORCE_ISA");
  for (const KernelTable* table : kTables) {
    const bool wanted = !forced || !*forced || std::string_view(forced) == table->isa;
    if (wanted && table->supported()) return *table;
  }
  throw std::runtime_error(
      "cpu_isa: JENGA_FORCE_ISA must name an instruction set that this build and machine have, got " +
      std::string(forced) + "; use one of " + usable_names() + ", or unset it");
}

}  // namespace jenga::cpu
