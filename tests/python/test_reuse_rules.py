"""The rules of step reuse: which predictions they leave to the model."""

import math

import pytest
import torch

from jenga.sampling.published_reuse import WAN_COEFFICIENTS
from jenga.sampling.reuse_rules import MeasuredRateRule, PublishedRule


def decisions(rule, latents, outputs, first: int = 0) -> list[bool]:
    """Computed or not, for latents and outputs of one conditioning, both numbers."""
    made, kept = [], None
    for step, (latent, output) in enumerate(zip(latents, outputs, strict=True), first):
        made.append(not rule.reuses(step, torch.full((2, 3), float(latent)), 1.0))
        if made[-1]:
            now = torch.full((2, 3), float(output))
            rule.computed("cond", kept, now)
            kept = now
    return made


LINE = [1 + 0.1 * step for step in range(12)]  # the latent moves on by 0.1 a step


def test_expected_changes_add_up_over_reused_predictions():
    """10 % between steps 0 and 1 is expected of steps 2 to 4 as 10, 20 and 30 %: 10, 30 and 60 % in all."""
    computed = decisions(MeasuredRateRule(0.5, 12), LINE[:5], [1.0, 1.1, 0, 0, 1.1])
    assert computed == [True, True, False, False, True]


def test_the_rate_is_that_between_the_last_two_computed_predictions():
    """No change between the second and the third means that nothing is expected to change after."""
    latents = [1 + 0.1 * step for step in range(40)]
    computed = decisions(MeasuredRateRule(0.5, 100), latents, [1.0, *[1.1] * 39], first=20)
    assert [step for step, made in enumerate(computed) if made] == [0, 1, 4]


def test_a_faster_latent_is_expected_to_change_the_output_more():
    slow = decisions(MeasuredRateRule(0.15, 12), [1.0, 1.1, 1.2], [1.0, 1.1, 1.2])
    fast = decisions(MeasuredRateRule(0.15, 12), [1.0, 1.1, 1.3], [1.0, 1.1, 1.3])
    assert (slow, fast) == ([True, True, False], [True, True, True])


def test_there_and_back_is_a_long_way():
    computed = decisions(MeasuredRateRule(0.35, 12), [1.0, 1.1, 1.2, 1.1], [1.0, 1.1, 0, 1.2])
    assert computed == [True, True, False, False]
    assert decisions(MeasuredRateRule(0.25, 12), [1.0, 1.1, 1.2, 1.1], [1.0, 1.1, 0, 1.2])[-1] is True


def test_first_steps_and_the_last_one_are_computed():
    constant = decisions(MeasuredRateRule(0.5, 20), [1 + 0.1 * step for step in range(20)], [1.0] * 20)
    assert [step for step, made in enumerate(constant) if made] == [0, 1, 2, 19]
    assert math.ceil(MeasuredRateRule.FIRST_SHARE * 20) == 3


def test_the_conditioning_that_changes_most_decides():
    rule = MeasuredRateRule(0.2, 100)

    def step(index, changes):
        reuses = rule.reuses(20 + index, torch.full((4,), LINE[index]), 1.0)
        for key, change in changes.items():
            rule.computed(key, torch.ones(4), torch.full((4,), 1 + change))
        return reuses

    step(0, {})
    step(1, {"cond": 0.1, "uncond": 0.3})
    assert step(2, {"cond": 0.1, "uncond": 0.1}) is False
    assert step(3, {}) is True


def test_threshold_zero_computes_everything():
    assert all(decisions(MeasuredRateRule(0.0, 12), LINE, [1.0] * 12))


def test_a_latent_that_the_sampler_changes_in_place_is_seen():
    rule, x = MeasuredRateRule(0.5, 100), torch.ones(4)
    assert rule.reuses(20, x, 1.0) is False
    x *= 1.1
    assert rule.reuses(21, x, 1.0) is False
    rule.computed("cond", torch.ones(4), torch.full((4,), 1.1))
    x *= 2
    assert rule.reuses(22, x, 1.0) is False


@pytest.mark.parametrize("size", [4, 8])
def test_two_predictions_of_a_stage_are_computed(size):
    rule = MeasuredRateRule(10.0, 12)
    assert decisions(rule, LINE[:3], [1.0, 1.1, 1.2]) == [True, True, False]
    rule.enter_stage()
    made = []
    for step in range(3, 6):
        made.append(not rule.reuses(step, torch.full((size,), LINE[step]), 1.0))
        rule.computed("cond", None if step == 3 else torch.ones(size), torch.full((size,), 1.1))
    assert made == [True, True, False]


class Signal:
    """A signal that grows by `rate` at every prediction, and counts them."""

    def __init__(self, rate: float):
        self.rate, self.calls = rate, []

    def __call__(self, sigma: float, device: torch.device) -> torch.Tensor:
        self.calls.append((sigma, device))
        return torch.tensor([1.0, -2.0], dtype=torch.float64) * (1 + self.rate) ** len(self.calls)


def published(rule: PublishedRule, steps: range) -> list[int]:
    return [step for step in steps if not rule.reuses(step, torch.zeros(2), 1.0)]


def test_the_polynomial_of_the_change_adds_up_to_the_threshold():
    """2 d² + 3 d + 0.01 at d = 0.1 is 0.33: one step is below 0.6, two are not."""
    rule = PublishedRule((2.0, 3.0, 0.01), Signal(0.1), 0.6, 20)
    assert published(rule, range(20)) == [0, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 19]


def test_five_steps_and_the_last_are_computed_whatever_the_sum():
    rule = PublishedRule((0.0,), Signal(0.1), 0.15, 12)
    assert published(rule, range(12)) == [0, 1, 2, 3, 4, 11]


def test_a_stage_starts_with_a_computed_step_and_an_empty_sum():
    rule = PublishedRule((1.0, 0.0), Signal(0.1), 0.25, 100)
    assert published(rule, range(4, 8)) == [4, 7]
    assert published(rule, range(8, 10)) == []
    rule.enter_stage()
    assert published(rule, range(10, 14)) == [10, 13]


def test_the_signal_is_asked_once_a_prediction_with_its_sigma_and_device():
    signal = Signal(0.1)
    rule = PublishedRule((1.0,), signal, 0.15, 10)
    for step, sigma in enumerate((1.0, 0.9, 0.8)):
        rule.reuses(step, torch.zeros(2), sigma)
    assert signal.calls == [(sigma, torch.device("cpu")) for sigma in (1.0, 0.9, 0.8)]


@pytest.mark.parametrize(
    ("name", "computed"),
    [
        ("Wan 1.3B", [0, 1, 2, 3, 4, 6, 8, 9]),
        ("Wan 14B", [0, 1, 2, 3, 4, 6, 8, 9]),
        ("Wan I2V 480P", list(range(10))),
        ("Wan I2V 720P", list(range(10))),
    ],
)
def test_the_published_polynomials_where_the_signal_changes_by_2_percent(name, computed):
    """8, 14, 18 and 16 % of output change a step: the first two stay below 15 % for one step."""
    rule = PublishedRule(WAN_COEFFICIENTS[name], Signal(0.02), 0.15, 10)
    assert published(rule, range(10)) == computed
