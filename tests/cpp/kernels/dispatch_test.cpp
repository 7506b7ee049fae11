// JENGA_ISA_FLAGS is what CMake compiles the tiers with: "generic=;avx2=-mavx2 -mfma -mf16c;..." with | for ;
#include "kernels/cpu/dispatch.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <sstream>
#include <stdexcept>

#include "kernels/cpu/features.h"
#include "tests/cpp/kernels/environment.h"

namespace jenga::test {
namespace {

class CpuDispatch : public testing::Test {
 protected:
  void TearDown() override { unsetenv("JENGA_FORCE_ISA"); }
};

std::map<std::string, std::string> compiled_flags() {
  std::map<std::string, std::string> flags;
  std::istringstream list(JENGA_ISA_FLAGS);
  for (std::string entry; std::getline(list, entry, '|');) {
    flags[entry.substr(0, entry.find('='))] = entry.substr(entry.find('=') + 1);
  }
  return flags;
}

TEST_F(CpuDispatch, GateIsWhatTheTierIsCompiledWith) {
  const auto compiled = compiled_flags();
  ASSERT_EQ(compiled.size(), cpu::kernel_tables().size());
  for (const cpu::KernelTable* table : cpu::kernel_tables()) {
    ASSERT_TRUE(compiled.count(table->isa)) << table->isa;
    EXPECT_EQ(cpu::gate_flags(table->isa), compiled.at(table->isa)) << table->isa;
  }
}

TEST_F(CpuDispatch, BestSupportedTierIsLive) {
  unsetenv("JENGA_FORCE_ISA");
  for (const cpu::KernelTable* table : cpu::kernel_tables()) {
    if (!table->supported()) continue;
    EXPECT_STREQ(cpu::live_table().isa, table->isa);
    break;
  }
  setenv("JENGA_FORCE_ISA", "", 1);
  EXPECT_TRUE(cpu::live_table().supported());
}

TEST_F(CpuDispatch, ForcedTierIsLiveOrRefused) {
  for (const cpu::KernelTable* table : cpu::kernel_tables()) {
    setenv("JENGA_FORCE_ISA", table->isa, 1);
    if (table->supported()) {
      EXPECT_STREQ(cpu::live_table().isa, table->isa);
    } else {
      EXPECT_THROW(cpu::live_table(), std::runtime_error) << table->isa;
    }
  }
}

TEST_F(CpuDispatch, UnknownTierIsRefusedWithTheRemedy) {
  setenv("JENGA_FORCE_ISA", "sse9", 1);
  try {
    cpu::live_table();
    FAIL() << "sse9 was accepted";
  } catch (const std::runtime_error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("got sse9"), std::string::npos) << text;
    EXPECT_NE(text.find("generic"), std::string::npos) << text;
    EXPECT_NE(text.find("unset"), std::string::npos) << text;
  }
}

#if defined(__x86_64__) && !defined(_WIN32)
TEST_F(CpuDispatch, FeaturesAreWhatTheCompilerSays) {
#define EXPECT_SAME(name) EXPECT_EQ(cpu::has_feature(name), __builtin_cpu_supports(name) != 0) << name
  EXPECT_SAME("avx2");
  EXPECT_SAME("fma");
  EXPECT_SAME("f16c");
  EXPECT_SAME("avx512f");
  EXPECT_SAME("avx512bw");
  EXPECT_SAME("avx512dq");
  EXPECT_SAME("avx512vl");
  EXPECT_SAME("avx512bf16");
#undef EXPECT_SAME
  EXPECT_FALSE(cpu::has_feature("sse9"));
}
#endif

TEST_F(CpuDispatch, LastTierRunsAnywhere) {
  EXPECT_STREQ(cpu::kernel_tables().back()->isa, "generic");
  EXPECT_TRUE(cpu::kernel_tables().back()->supported());
}

}  // namespace
}  // namespace jenga::test
