// The tables of the tiers (one kernels.cpp each) and their gates (dispatch.cpp).
#pragma once

#include "kernels/cpu/dispatch.h"

namespace jenga::cpu {

extern const KernelTable generic_table;
extern const KernelTable avx2_table;
extern const KernelTable avx512_table;
extern const KernelTable avx512_bf16_table;

bool generic_supported();
bool avx2_supported();
bool avx512_supported();
bool avx512_bf16_supported();

}  // namespace jenga::cpu
