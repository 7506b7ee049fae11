#include <string>

#include "csrc/ops/boxed.h"
#include "kernels/cpu/dispatch.h"

namespace jenga::ops {
namespace {

std::string cpu_isa() { return cpu::live_table().isa; }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CompositeExplicitAutograd, m) { m.impl("cpu_isa", JENGA_BOX(&cpu_isa)); }

}  // namespace jenga::ops
