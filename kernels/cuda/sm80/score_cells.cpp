#include "kernels/cuda/sm80/score_cells.h"

#include "kernels/cuda/sm80/score_kernels.h"

namespace jenga::cuda::sm80 {
namespace {

template <int kHeadDim>
constexpr ScoreKernels kernels_of(const KernelPair<ScoreArguments>& shifts, const KernelPair<ScoreArguments>& masses) {
  return {shifts, masses, kThreads, ScoreTile<kHeadDim>::kTileRows, ScoreTile<kHeadDim>::kSharedBytes};
}

constexpr ScoreKernels k32 = kernels_of<32>(jenga_sm80_score_shifts_32, jenga_sm80_score_masses_32);
constexpr ScoreKernels k64 = kernels_of<64>(jenga_sm80_score_shifts_64, jenga_sm80_score_masses_64);
constexpr ScoreKernels k96 = kernels_of<96>(jenga_sm80_score_shifts_96, jenga_sm80_score_masses_96);
constexpr ScoreKernels k128 = kernels_of<128>(jenga_sm80_score_shifts_128, jenga_sm80_score_masses_128);
constexpr ScoreKernels k192 = kernels_of<192>(jenga_sm80_score_shifts_192, jenga_sm80_score_masses_192);
constexpr ScoreKernels k256 = kernels_of<256>(jenga_sm80_score_shifts_256, jenga_sm80_score_masses_256);

}  // namespace

const ScoreKernels& score_kernels(int64_t head_dim) {
  if (head_dim <= 32) return k32;
  if (head_dim <= 64) return k64;
  if (head_dim <= 96) return k96;
  if (head_dim <= 128) return k128;
  if (head_dim <= 192) return k192;
  return k256;
}

}  // namespace jenga::cuda::sm80
