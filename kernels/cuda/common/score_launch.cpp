#include "kernels/cuda/common/score_launch.h"

namespace jenga::cuda {
namespace {

CUresult launch_pass(const KernelPair<ScoreArguments>& kernel, const ScoreKernels& kernels, DataType dtype,
                     ScoreArguments args, int64_t heads, CUstream stream) {
  args.tiles_per_head = static_cast<int32_t>(ceil_div(args.num_q_cells, kernels.tile_rows));
  return kernel.launch(dtype, {heads * args.tiles_per_head, kernels.threads, kernels.shared_bytes}, stream, args);
}

}  // namespace

CUresult launch_score_passes(const ScoreKernels& kernels, DataType dtype, const ScoreArguments& coarse,
                             const ScoreArguments& cells, int64_t heads, CUstream stream) {
  if (CUresult error = launch_pass(kernels.shifts, kernels, dtype, coarse, heads, stream)) return error;
  return launch_pass(kernels.masses, kernels, dtype, cells, heads, stream);
}

}  // namespace jenga::cuda
