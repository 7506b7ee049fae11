#include "csrc/core/stages.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/cpp/core/refusal.h"

namespace jenga::core {
namespace {

constexpr SigmaShift kFlow{SigmaShift::Family::kFlow};

// Evenly spaced noise levels from 1 to 0, shifted: what a flow model with that shift uses.
std::vector<double> flow_sigmas(int64_t steps, double shift) {
  std::vector<double> sigmas;
  for (int64_t i = 0; i <= steps; ++i) {
    sigmas.push_back(kFlow(1 - static_cast<double>(i) / static_cast<double>(steps), shift));
  }
  return sigmas;
}

std::vector<std::pair<int64_t, int64_t>> ranges(const std::vector<Stage>& stages) {
  std::vector<std::pair<int64_t, int64_t>> result;
  for (const Stage& stage : stages) result.emplace_back(stage.first_step, stage.end_step);
  return result;
}

std::vector<Stage> split(int64_t steps, std::vector<double> ends) {
  return stages(flow_sigmas(steps, 7), ends, std::vector<double>(ends.size(), 1.0), kFlow, Semantics::kCorrected);
}

using Ranges = std::vector<std::pair<int64_t, int64_t>>;

TEST(Stages, PublishedTurboFigures) {
  const auto turbo =
      stages(flow_sigmas(50, 7), std::vector{.5, 1.}, std::vector{1., 9. / 7}, kFlow, Semantics::kPublished);
  ASSERT_EQ(ranges(turbo), (Ranges{{0, 26}, {26, 50}}));
  EXPECT_NEAR(turbo[0].sigmas[25], .875, 1e-12);  // where the latent is
  EXPECT_NEAR(turbo[0].x0_sigma, .900, 1e-12);    // what x0 is computed with
  EXPECT_NEAR(turbo[1].renoise_sigma, .8926, 5e-5);
  EXPECT_EQ(turbo[1].renoise_sigma, turbo[1].sigmas[0]);
}

TEST(Stages, PublishedThreeStageFigures) {
  const auto three = stages(flow_sigmas(50, 7), std::vector{.3, .5, 1.}, std::vector{1., 9. / 7, 11. / 7}, kFlow,
                            Semantics::kPublished);
  ASSERT_EQ(ranges(three), (Ranges{{0, 16}, {16, 26}, {26, 50}}));
  EXPECT_NEAR(three[1].renoise_sigma, .9503, 5e-5);
  EXPECT_NEAR(three[2].renoise_sigma, .9103, 5e-5);
  EXPECT_NEAR(three[0].x0_sigma - three[0].sigmas[15], .0122, 5e-5);
  EXPECT_NEAR(three[1].x0_sigma - three[1].sigmas[9], .0167, 5e-5);
}

TEST(Stages, PublishedSplitOfFiveSteps) { EXPECT_EQ(ranges(split(5, {.5, 1})), (Ranges{{0, 3}, {3, 5}})); }

TEST(Stages, CorrectedSwitchUsesTheScheduleTheLatentIsOn) {
  const std::vector<double> sigmas = flow_sigmas(50, 7);
  const auto turbo = stages(sigmas, std::vector{.5, 1.}, std::vector{1., 9. / 7}, kFlow, Semantics::kCorrected);
  ASSERT_EQ(ranges(turbo), (Ranges{{0, 26}, {26, 50}}));
  EXPECT_EQ(turbo[0].x0_sigma, sigmas[25]);
  EXPECT_EQ(turbo[0].sigmas.size(), 27u);
  EXPECT_EQ(turbo[0].sigmas.back(), sigmas[26]);
  EXPECT_NEAR(turbo[1].renoise_sigma, .8926, 5e-5);
  EXPECT_EQ(turbo[1].sigmas.back(), 0);
}

TEST(Stages, CutsTruncateTheProductOfDoubles) {
  EXPECT_EQ(ranges(split(100, {.29, 1})), (Ranges{{0, 29}, {29, 100}}));  // .29 * 100 is 28.999999999999996
  EXPECT_EQ(ranges(split(100, {.3, 1})), (Ranges{{0, 31}, {31, 100}}));
}

TEST(Stages, StagesWithoutStepsVanish) {
  const auto few = split(4, {.25, .3, .5, 1});
  EXPECT_EQ(ranges(few), (Ranges{{0, 2}, {2, 3}, {3, 4}}));
  EXPECT_EQ(few[1].stage_index, 2);
  EXPECT_EQ(few[2].stage_index, 3);
  EXPECT_EQ(ranges(split(1, {.5, 1})), (Ranges{{0, 1}}));
  EXPECT_EQ(split(1, {.5, 1})[0].stage_index, 1);
  EXPECT_EQ(ranges(split(8, {1, 1})), (Ranges{{0, 8}}));
}

TEST(Stages, LastStepRunsAtFullSize) {
  EXPECT_EQ(ranges(split(2, {.5, 1})), (Ranges{{0, 1}, {1, 2}}));
  EXPECT_EQ(ranges(split(8, {.99, 1})), (Ranges{{0, 7}, {7, 8}}));
}

TEST(Stages, EveryStepBelongsToOneStage) {
  for (int64_t steps = 1; steps <= 60; ++steps) {
    int64_t next = 0;
    for (const Stage& stage : split(steps, {.3, .5, 1})) {
      EXPECT_EQ(stage.first_step, next);
      EXPECT_GT(stage.end_step, stage.first_step);
      EXPECT_EQ(static_cast<int64_t>(stage.sigmas.size()), stage.end_step - stage.first_step + 1);
      next = stage.end_step;
    }
    EXPECT_EQ(next, steps);
  }
}

TEST(Stages, RunThatEndsAboveZeroHandsOverItsLastSigma) {
  const std::vector<double> sigmas = {1, .95, .9, .8};
  const auto result = stages(sigmas, std::vector{0., 1.}, std::vector{1., 1.}, kFlow, Semantics::kCorrected);
  ASSERT_EQ(ranges(result), (Ranges{{0, 1}, {1, 3}}));
  EXPECT_EQ(result[1].sigmas, (std::vector<double>{.95, .9, .8}));
}

TEST(SigmaShift, FlowShiftsCompose) {
  for (const double sigma : {0., .1, .5, .9, 1.}) {
    EXPECT_NEAR(kFlow(kFlow(sigma, 7), 9. / 7), kFlow(sigma, 9), 1e-15);
    EXPECT_EQ(kFlow(sigma, 1), sigma);
  }
}

TEST(SigmaShift, OtherModelsScaleUpToTheirLargestSigma) {
  const SigmaShift other{SigmaShift::Family::kOther, 14.6};
  EXPECT_EQ(other(4, 2), 8);
  EXPECT_EQ(other(10, 2), 14.6);
  EXPECT_EQ(other(0, 2), 0);
  const auto result =
      stages(std::vector{14.6, 3., 0.}, std::vector{.5, 1.}, std::vector{1., 1.5}, other, Semantics::kCorrected);
  EXPECT_EQ(result[1].sigmas, (std::vector<double>{4.5, 0}));
}

TEST(Stages, RefusesWrongArguments) {
  const auto refusal = [](std::vector<double> sigmas, std::vector<double> ends, std::vector<double> ratios,
                          SigmaShift shift, const char* text) {
    expect_refusal([&] { stages(sigmas, ends, ratios, shift, Semantics::kCorrected); }, text);
  };
  refusal({1}, {1}, {1}, kFlow, "stages: sigmas must have at least two entries (one step), got 1");
  refusal({1, NAN}, {1}, {1}, kFlow, "stages: sigmas must be finite and not negative, got nan");
  refusal({.5, .6}, {1}, {1}, kFlow, "stages: sigmas must not increase, got 0.6");
  refusal({14, 0}, {1}, {1}, kFlow, "stages: sigmas must be at most 1 for a flow model, got 14");
  refusal({1, 0}, {}, {}, kFlow, "stages: stage_ends must end with 1, got nan");
  refusal({1, 0}, {.5}, {1}, kFlow, "stages: stage_ends must end with 1, got 0.5");
  refusal({1, 0}, {.5, .4, 1}, {1, 1, 1}, kFlow, "stages: stage_ends must be ascending from 0, got 0.4");
  refusal({1, 0}, {-.5, 1}, {1, 1}, kFlow, "stages: stage_ends must be ascending from 0, got -0.5");
  refusal({1, 0}, {.5, 1}, {1}, kFlow, "stages: shift_ratios must have one entry per stage, got 1");
  refusal({1, 0}, {1}, {0}, kFlow, "stages: shift_ratios must be finite and positive, got 0");
  refusal({1, 0}, {1}, {1}, {SigmaShift::Family::kOther, 0}, "stages: sigma_max must be finite and positive, got 0");
}

}  // namespace
}  // namespace jenga::core
