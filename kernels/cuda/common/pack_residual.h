// Kernels of pack_residual, by the lanes that share a row.
#pragma once

#include "kernels/cuda/driver/kernel.h"
#include "kernels/params.h"

namespace jenga::cuda {

inline constexpr int kPackThreads = 256;

JENGA_KERNEL_PAIR(common_pack_residual, jenga_pack_residual_2, PackResidualParams);
JENGA_KERNEL_PAIR(common_pack_residual, jenga_pack_residual_4, PackResidualParams);
JENGA_KERNEL_PAIR(common_pack_residual, jenga_pack_residual_8, PackResidualParams);
JENGA_KERNEL_PAIR(common_pack_residual, jenga_pack_residual_16, PackResidualParams);
JENGA_KERNEL_PAIR(common_pack_residual, jenga_pack_residual_32, PackResidualParams);

}  // namespace jenga::cuda
