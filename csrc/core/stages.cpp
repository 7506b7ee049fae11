#include "csrc/core/stages.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace jenga::core {
namespace {

void check_step(int64_t step, std::span<const double> stage_sigmas, std::span<const double> next_sigmas) {
  const auto limit = static_cast<int64_t>(std::min(stage_sigmas.size(), next_sigmas.size())) - 1;
  if (step < 0 || step >= limit) {
    throw std::invalid_argument("renoise: step must be in 0 .. " + std::to_string(limit - 1) + ", got " +
                                std::to_string(step));
  }
}

}  // namespace

std::vector<Stage> split_steps(int64_t steps, std::span<const double> ends) {
  if (steps < 1) throw std::invalid_argument("split_steps: steps must be positive, got " + std::to_string(steps));
  if (ends.empty() || ends.back() != 1.0 || !std::is_sorted(ends.begin(), ends.end()) || ends.front() < 0) {
    throw std::invalid_argument("split_steps: ends must ascend from 0 to 1, got " +
                                (ends.empty() ? std::string("none") : std::to_string(ends.back()) + " last"));
  }
  std::vector<Stage> stages;
  int64_t first = 0;
  for (size_t s = 0; s < ends.size(); ++s) {
    const auto last = static_cast<int64_t>(static_cast<double>(steps) * ends[s]);
    if (last > first) stages.push_back({static_cast<int64_t>(s), first, last});
    first = std::max(first, last);
  }
  return stages;
}

double shift_flow_sigma(double sigma, double ratio) { return ratio * sigma / (1 + (ratio - 1) * sigma); }

double shift_sigma(double sigma, double ratio, double sigma_max) { return std::min(ratio * sigma, sigma_max); }

Renoise renoise_corrected(std::span<const double> stage_sigmas, int64_t step, std::span<const double> next_sigmas) {
  check_step(step, stage_sigmas, next_sigmas);
  return {stage_sigmas[static_cast<size_t>(step)], next_sigmas[static_cast<size_t>(step) + 1]};
}

Renoise renoise_published(std::span<const double> stage_sigmas, int64_t step, std::span<const double> next_sigmas) {
  check_step(step, stage_sigmas, next_sigmas);
  return {next_sigmas[static_cast<size_t>(step)], next_sigmas[static_cast<size_t>(step) + 1]};
}

}  // namespace jenga::core
