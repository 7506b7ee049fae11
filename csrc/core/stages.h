// Progressive resolution: which steps each stage runs, at which noise levels, and how a switch re-noises.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace jenga::core {

struct Stage {
  int64_t index;       // of the scale and ratio lists
  int64_t first_step;  // steps first_step .. last_step - 1 of the full schedule
  int64_t last_step;
};

// Stages of a run of `steps` steps. ends: the fraction of the steps after which each stage ends, ascending, the last 1;
// stage s ends after int(steps * ends[s]) steps. Stages without steps vanish (paper section on progressive resolution).
// Throws std::invalid_argument for steps < 1 or fractions that do not ascend to 1.
std::vector<Stage> split_steps(int64_t steps, std::span<const double> ends);

// sigma of a flow model's schedule under a shift of ratio r to the schedule it is given: r s / (1 + (r - 1) s).
double shift_flow_sigma(double sigma, double ratio);

// The same for eps, v and EDM models, whose sigma is unbounded: min(r s, sigma_max).
double shift_sigma(double sigma, double ratio, double sigma_max);

struct Renoise {
  double denoise_sigma;  // the level at which x0 is predicted from the latent
  double noise_sigma;    // the level to which the upsampled x0 is noised, and at which the model is evaluated next
};

// Ours: x0 at the level the latent is really on, one level for latent and model.
Renoise renoise_corrected(std::span<const double> stage_sigmas, int64_t step, std::span<const double> next_sigmas);

// The paper's reference: x0 at the same step of the next stage's schedule (method defect kept for comparison).
Renoise renoise_published(std::span<const double> stage_sigmas, int64_t step, std::span<const double> next_sigmas);

}  // namespace jenga::core
