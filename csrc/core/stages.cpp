#include "csrc/core/stages.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace jenga::core {
namespace {

void require(bool condition, const char* text, double value) {
  if (!condition) throw std::invalid_argument("stages: " + std::string(text) + ", got " + std::to_string(value));
}

void check(std::span<const double> sigmas, std::span<const double> stage_ends, std::span<const double> shift_ratios,
           SigmaShift shift) {
  require(sigmas.size() >= 2, "sigmas must have at least two entries (one step)", static_cast<double>(sigmas.size()));
  const bool flow = shift.family == SigmaShift::Family::kFlow;
  double before = INFINITY;
  for (const double sigma : sigmas) {
    require(std::isfinite(sigma) && sigma >= 0, "sigmas must be finite and not negative", sigma);
    require(sigma <= before, "sigmas must not increase", sigma);
    require(!flow || sigma <= 1, "sigmas must be at most 1 for a flow model", sigma);
    before = sigma;
  }
  require(!stage_ends.empty() && stage_ends.back() == 1, "stage_ends must end with 1",
          stage_ends.empty() ? NAN : stage_ends.back());
  double start = 0;
  for (const double end : stage_ends) {
    require(end >= start, "stage_ends must be ascending from 0", end);
    start = end;
  }
  require(shift_ratios.size() == stage_ends.size(), "shift_ratios must have one entry per stage",
          static_cast<double>(shift_ratios.size()));
  for (const double ratio : shift_ratios) {
    require(std::isfinite(ratio) && ratio > 0, "shift_ratios must be finite and positive", ratio);
  }
  require(flow || (std::isfinite(shift.sigma_max) && shift.sigma_max > 0), "sigma_max must be finite and positive",
          shift.sigma_max);
}

}  // namespace

double SigmaShift::operator()(double sigma, double ratio) const {
  if (family == Family::kFlow) return ratio * sigma / (1 + (ratio - 1) * sigma);
  return std::min(ratio * sigma, sigma_max);
}

std::vector<Stage> stages(std::span<const double> sigmas, std::span<const double> stage_ends,
                          std::span<const double> shift_ratios, SigmaShift shift, Semantics semantics) {
  check(sigmas, stage_ends, shift_ratios, shift);
  const auto steps = static_cast<int64_t>(sigmas.size()) - 1;
  std::vector<Stage> result;
  int64_t first = 0;
  for (size_t i = 0; i < stage_ends.size(); ++i) {
    // The product of doubles is truncated, as published: 0.29 * 100 is step 28.
    const int64_t cut = std::min(static_cast<int64_t>(static_cast<double>(steps) * stage_ends[i]) + 1, steps - 1);
    const int64_t end = stage_ends[i] == 1 ? steps : cut;
    if (end <= first) continue;
    Stage stage{static_cast<int64_t>(i), first, end, {}, 0, 0};
    for (int64_t step = first; step <= end; ++step) stage.sigmas.push_back(shift(sigmas[step], shift_ratios[i]));
    stage.renoise_sigma = stage.sigmas.front();
    stage.x0_sigma = stage.sigmas[stage.sigmas.size() - 2];
    if (semantics == Semantics::kPublished && !result.empty()) {
      result.back().x0_sigma = shift(sigmas[first - 1], shift_ratios[i]);
    }
    result.push_back(std::move(stage));
    first = end;
  }
  return result;
}

}  // namespace jenga::core
