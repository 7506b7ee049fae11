// The scoring kernels of select_blocks: what they get, and the choice among them by device and head dim.
#include <cmath>

#include "kernels/cuda/capability.h"
#include "kernels/cuda/common/score_cells.h"
#include "kernels/cuda/sm80/score_cells.h"
#include "kernels/cuda/sm90/score_cells.h"

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

// Of the second pass.
ScoreArguments score_arguments(const SelectBlocksParams& p, const ScoreWorkspace& workspace) {
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
  args.mass_stride = static_cast<int32_t>(mass_stride(p));
  args.q_cell_bits = whole_log2(p.q_cells);
  args.scale = p.softmax_scale * 1.44269504088896340736f;
  args.last_k_logit = log2_share(p.last_k_cell(), p.k_cell_size()) / args.scale;
  args.last_q_weight = log2_share(p.last_q_cell(), p.q_cell_size());
  return args;
}

}  // namespace

CUresult score_cells(const SelectBlocksParams& params, const ScoreWorkspace& workspace, CUstream stream) {
  if (params.head_dim % 8 != 0 || params.head_dim > kMaxHeadDim) return CUDA_ERROR_NOT_SUPPORTED;
  int capability = 0;
  if (CUresult error = compute_capability(&capability)) return error;
  const ScoreArguments cells = score_arguments(params, workspace);
  ScoreArguments coarse = cells;
  coarse.k_means = workspace.coarse_means;
  coarse.num_k_cells = static_cast<int32_t>(params.num_coarse());
  coarse.last_k_logit = log2_share(params.last_coarse(), params.coarse_size()) / coarse.scale;
  const int64_t heads = params.batch * params.heads;
  if (sm90::runs_scores(capability, params.head_dim))
    return launch_score_passes(sm90::score_kernels(params.head_dim), params.dtype, coarse, cells, heads, stream);
  if (sm80::runs_scores(capability, params.head_dim))
    return launch_score_passes(sm80::score_kernels(params.head_dim), params.dtype, coarse, cells, heads, stream);
  return CUDA_ERROR_NOT_SUPPORTED;
}

}  // namespace jenga::cuda
