#include "kernels/cuda/common/score_launch.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/driver/device.h"

namespace jenga::cuda {
namespace {

int32_t whole_log2(int64_t power_of_two) {
  int32_t bits = 0;
  while (int64_t{1} << bits < power_of_two) ++bits;
  return bits;
}

float log2_share(int64_t part, int64_t whole) {
  return std::log2(static_cast<float>(part) / static_cast<float>(whole));
}

}  // namespace

ScoreArguments mass_arguments(const SelectBlocksParams& p, const ScoreWorkspace& workspace, int tile_rows) {
  ScoreArguments args{};
  args.q_means = p.q_means;
  args.k_means = p.k_means;
  args.shifts = workspace.shifts;
  args.masses = workspace.masses;
  args.head_dim = static_cast<int32_t>(p.head_dim);
  args.num_q_cells = static_cast<int32_t>(p.num_q_cells());
  args.num_k_cells = static_cast<int32_t>(p.num_k_cells());
  args.num_q_blocks = static_cast<int32_t>(p.num_q_blocks());
  args.q_cells = static_cast<int32_t>(p.q_cells);
  args.k_cells = static_cast<int32_t>(p.k_cells);
  args.tiles_per_head = static_cast<int32_t>(ceil_div(p.num_q_cells(), tile_rows));
  args.row_tiles = static_cast<int32_t>(p.batch * p.heads * args.tiles_per_head);
  args.mass_stride = static_cast<int32_t>(mass_stride(p));
  args.q_cell_bits = whole_log2(p.q_cells);
  args.scale = p.softmax_scale * 1.44269504088896340736f;
  args.last_k_logit = log2_share(p.last_k_cell(), p.k_cell_size()) / args.scale;
  args.last_q_weight = log2_share(p.last_q_cell(), p.q_cell_size());
  return args;
}

ScoreArguments shift_arguments(const SelectBlocksParams& p, const ScoreWorkspace& workspace, int tile_rows) {
  ScoreArguments args = mass_arguments(p, workspace, tile_rows);
  args.k_means = workspace.coarse_means;
  args.num_k_cells = static_cast<int32_t>(p.num_coarse());
  args.last_k_logit = log2_share(p.last_coarse(), p.coarse_size()) / args.scale;
  return args;
}

CUresult launch_score_passes(const ScoreKernels& kernels, const SelectBlocksParams& params,
                             const ScoreWorkspace& workspace, CUstream stream) {
  const auto launch_pass = [&](const KernelPair<ScoreArguments>& kernel, const ScoreArguments& args, int64_t grid) {
    return kernel.launch(params.dtype, {grid, kernels.threads, kernels.shared_bytes}, stream, args);
  };
  const ScoreArguments shifts = shift_arguments(params, workspace, kernels.tile_rows);
  if (CUresult error = launch_pass(kernels.shifts, shifts, shifts.row_tiles)) return error;
  const ScoreArguments masses = mass_arguments(params, workspace, kernels.tile_rows);
  if (kernels.stage_keys == 0) return launch_pass(kernels.masses, masses, masses.row_tiles);
  int processors = 0;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &processors)) return error;
  const int64_t pairs = masses.row_tiles * ceil_div(masses.num_k_cells, kernels.stage_keys);
  return launch_pass(kernels.masses, masses, std::min<int64_t>(processors, pairs));
}

}  // namespace jenga::cuda
