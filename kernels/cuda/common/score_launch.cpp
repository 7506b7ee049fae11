#include "kernels/cuda/common/score_launch.h"

#include <algorithm>

#include "kernels/cuda/driver/device.h"

namespace jenga::cuda {

CUresult launch_score_passes(const ScoreKernels& kernels, DataType dtype, const ScoreArguments& coarse,
                             const ScoreArguments& cells, int64_t heads, CUstream stream) {
  const int64_t tiles_per_head = ceil_div(cells.num_q_cells, kernels.tile_rows), row_tiles = heads * tiles_per_head;
  const auto launch_pass = [&](const KernelPair<ScoreArguments>& kernel, ScoreArguments args, int64_t grid) {
    args.tiles_per_head = static_cast<int32_t>(tiles_per_head);
    args.row_tiles = static_cast<int32_t>(row_tiles);
    return kernel.launch(dtype, {grid, kernels.threads, kernels.shared_bytes}, stream, args);
  };
  if (CUresult error = launch_pass(kernels.shifts, coarse, row_tiles)) return error;
  if (kernels.stage_keys == 0) return launch_pass(kernels.masses, cells, row_tiles);
  int processors = 0;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &processors)) return error;
  const int64_t pairs = row_tiles * ceil_div(cells.num_k_cells, kernels.stage_keys);
  return launch_pass(kernels.masses, cells, std::min<int64_t>(processors, pairs));
}

}  // namespace jenga::cuda
