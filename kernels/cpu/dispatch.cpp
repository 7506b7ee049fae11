// Gates and choice of the CPU tiers. A gate lists what kernels/cpu/CMakeLists.txt compiles the tier with, nothing else.
#include "kernels/cpu/dispatch.h"

#include <cstdlib>
#include <stdexcept>

#include "kernels/cpu/tiers.h"

namespace jenga::cpu {
namespace {

struct Feature {
  const char* name;
  bool (*present)();
};

#if defined(__x86_64__)
#define JENGA_FEATURE(name)                                \
  Feature {                                                \
    name, [] { return __builtin_cpu_supports(name) != 0; } \
  }
constexpr Feature kAvx2[] = {JENGA_FEATURE("avx2"), JENGA_FEATURE("fma"), JENGA_FEATURE("f16c")};
constexpr Feature kAvx512[] = {JENGA_FEATURE("avx2"),    JENGA_FEATURE("fma"),      JENGA_FEATURE("f16c"),
                               JENGA_FEATURE("avx512f"), JENGA_FEATURE("avx512bw"), JENGA_FEATURE("avx512dq"),
                               JENGA_FEATURE("avx512vl")};
constexpr Feature kAvx512Bf16[] = {JENGA_FEATURE("avx2"),     JENGA_FEATURE("fma"),       JENGA_FEATURE("f16c"),
                                   JENGA_FEATURE("avx512f"),  JENGA_FEATURE("avx512bw"),  JENGA_FEATURE("avx512dq"),
                                   JENGA_FEATURE("avx512vl"), JENGA_FEATURE("avx512bf16")};
#undef JENGA_FEATURE
constexpr const KernelTable* kTables[] = {&avx512_bf16_table, &avx512_table, &avx2_table, &generic_table};
#else
constexpr const KernelTable* kTables[] = {&generic_table};
#endif

bool all_present(std::span<const Feature> gate) {
  for (const Feature& feature : gate) {
    if (!feature.present()) return false;
  }
  return true;
}

std::span<const Feature> gate_of(std::string_view isa) {
#if defined(__x86_64__)
  if (isa == "avx2") return kAvx2;
  if (isa == "avx512") return kAvx512;
  if (isa == "avx512_bf16") return kAvx512Bf16;
#endif
  (void)isa;
  return {};
}

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
  for (const Feature& feature : gate_of(isa)) flags += (flags.empty() ? "-m" : " -m") + std::string(feature.name);
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
