// Which steps of a run each resolution stage computes, on which sigmas, and what happens at a switch.
//
// Stage s ends after step int(steps * stage_ends[s]), which still belongs to it; the last step of the run always
// belongs to the last stage. Stages without steps vanish. A stage's schedule is the run's own, shifted by the ratio r
// of the stage: flow models r s / (1 + (r - 1) s), others min(r s, sigma_max). At a switch x0 is taken from the last
// evaluation of the old stage, resized, and noised to the first sigma of the new stage, which is also what the model is
// told. published: x0 is computed as if the latent were on the new schedule already.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace jenga::core {

enum class Semantics { kCorrected, kPublished };

struct SigmaShift {
  enum class Family { kFlow, kOther };
  Family family = Family::kFlow;
  double sigma_max = 1;  // kOther: the largest sigma the model knows

  double operator()(double sigma, double ratio) const;
};

struct Stage {
  int64_t stage_index;         // in stage_ends
  int64_t first_step;          // steps first_step .. end_step - 1
  int64_t end_step;            //
  std::vector<double> sigmas;  // [end_step - first_step + 1]; the last is where the stage would go on
  double renoise_sigma;        // noise level on entry: sigmas[0]
  double x0_sigma;             // at the last step, x0 = x - x0_sigma * v
};

// sigmas: [steps + 1], not increasing. stage_ends: ascending fractions of the steps, the last one 1.
// shift_ratios: one per stage, relative to sigmas. Throws std::invalid_argument for anything else.
std::vector<Stage> stages(std::span<const double> sigmas, std::span<const double> stage_ends,
                          std::span<const double> shift_ratios, SigmaShift shift, Semantics semantics);

}  // namespace jenga::core
