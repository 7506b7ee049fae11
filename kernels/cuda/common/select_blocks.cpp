#include "kernels/cuda/common/select_blocks.h"

#include "kernels/cuda/common/score_cells.h"
#include "kernels/cuda/driver/device.h"
#include "kernels/cuda/launch.h"

namespace jenga::cuda {
namespace {

// What a thread block may have on the current device.
CUresult shared_memory(int64_t* bytes) {
  int available = 0;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &available))
    return error;
  *bytes = available;
  return CUDA_SUCCESS;
}

// Bytes of the parts of the workspace, in this order; each starts on 16 bytes.
struct WorkspaceBytes {
  int64_t coarse_means, shifts, masses;
};
WorkspaceBytes workspace_bytes(const SelectBlocksParams& p) {
  const int64_t heads = p.batch * p.heads, lists = heads * p.num_q_blocks();
  return {round_up(heads * p.num_coarse() * p.head_dim * 2, 16),
          round_up(heads * p.num_q_cells() * int64_t{sizeof(float)}, 16),
          lists * mass_stride(p) * int64_t{sizeof(float)}};
}

CUresult list_blocks(const SelectBlocksParams& params, const float* masses, CUstream stream) {
  const int64_t bytes_a_row = mass_stride(params) * int64_t{sizeof(uint32_t)};
  SelectArguments args{.params = params,
                       .masses = masses,
                       .lists = params.batch * params.heads * params.num_q_blocks(),
                       .rows = kMostRows,
                       .num_q = static_cast<int32_t>(params.num_q_blocks()),
                       .num_kv = static_cast<int32_t>(params.num_kv_blocks()),
                       .padded = static_cast<int32_t>(mass_stride(params))};
  int64_t available = 0;
  if (CUresult error = shared_memory(&available)) return error;
  while (args.rows > 1 && args.rows * bytes_a_row > available) args.rows /= 2;
  if (args.rows * bytes_a_row > available) return CUDA_ERROR_NOT_SUPPORTED;
  return jenga_select_blocks.launch({ceil_div(args.lists, args.rows), args.rows * 32, args.rows * bytes_a_row}, stream,
                                    args);
}

}  // namespace

CUresult most_selectable_blocks(int64_t* most) {
  int64_t available = 0;
  if (CUresult error = shared_memory(&available)) return error;
  *most = available / int64_t{sizeof(uint32_t)} / 4 * 4;
  return CUDA_SUCCESS;
}

size_t select_blocks_workspace(const SelectBlocksParams& params) {
  const WorkspaceBytes bytes = workspace_bytes(params);
  return static_cast<size_t>(bytes.coarse_means + bytes.shifts + bytes.masses);
}

CUresult select_blocks(const SelectBlocksParams& params, void* workspace, CUstream stream) {
  if (params.min_blocks < 1) return CUDA_ERROR_NOT_SUPPORTED;
  if (params.batch * params.heads * params.num_q_blocks() == 0) return CUDA_SUCCESS;
  int64_t most = 0;
  if (CUresult error = most_selectable_blocks(&most)) return error;
  if (params.num_kv_blocks() > most) return CUDA_ERROR_NOT_SUPPORTED;
  const WorkspaceBytes bytes = workspace_bytes(params);
  auto* const start = static_cast<uint8_t*>(workspace);
  const ScoreWorkspace parts{.coarse_means = start,
                             .shifts = reinterpret_cast<float*>(start + bytes.coarse_means),
                             .masses = reinterpret_cast<float*>(start + bytes.coarse_means + bytes.shifts)};
  if (CUresult error = average_cells(params, parts.coarse_means, stream)) return error;
  if (CUresult error = score_cells(params, parts, stream)) return error;
  return list_blocks(params, parts.masses, stream);
}

}  // namespace jenga::cuda
