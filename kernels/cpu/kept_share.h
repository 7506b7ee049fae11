// kept_share on the CPU, the same for every tier: a look at one or two numbers of each list.
#pragma once

#include "kernels/params.h"

namespace jenga::cpu {

void kept_share(const KeptShareParams& params);

}  // namespace jenga::cpu
