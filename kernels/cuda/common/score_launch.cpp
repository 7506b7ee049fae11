#include "kernels/cuda/common/score_launch.h"

#include <algorithm>

#include "kernels/cuda/driver/device.h"

namespace jenga::cuda {

CUresult launch_score_passes(const ScoreKernels& kernels, DataType dtype, const ScoreArguments& coarse,
                             const ScoreArguments& cells, int64_t heads, CUstream stream) {
  const auto launch_pass = [&](const KernelPair<ScoreArguments>& kernel, ScoreArguments args, int64_t grid) {
    args.tiles_per_head = static_cast<int32_t>(ceil_div(args.num_q_cells, kernels.tile_rows));
    args.row_tiles = static_cast<int32_t>(heads * args.tiles_per_head);
    return kernel.launch(dtype, {grid, kernels.threads, kernels.shared_bytes}, stream, args);
  };
  const int64_t row_tiles = heads * ceil_div(cells.num_q_cells, kernels.tile_rows);
  if (CUresult error = launch_pass(kernels.shifts, coarse, row_tiles)) return error;
  int64_t grid = row_tiles;
  if (kernels.shared_stage != 0) {
    int processors = 0;
    if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &processors)) return error;
    grid = std::min<int64_t>(processors, row_tiles * ceil_div(cells.num_k_cells, kernels.shared_stage));
  }
  return launch_pass(kernels.masses, cells, grid);
}

}  // namespace jenga::cuda
