"""Step reuse: which calls are made, and what a call that is not made returns."""

import pytest
import torch

from jenga.sampling.reuse import StepReuse
from jenga.sampling.reuse_rules import StaticRule

SIGMAS = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])


class Model:
    """Denoised x0 = x - sigma * v with a velocity of its own for every part of the batch; counts its calls."""

    def __init__(self, *velocities: float):
        self.velocities, self.calls = velocities, 0

    def __call__(self, reuse: StepReuse, sigma: float, keys: list[str], size: int = 4) -> tuple[torch.Tensor, bool]:
        x = torch.full((len(keys), 1, size), sigma)
        reuse.begin_evaluation(x, torch.tensor(sigma))
        velocity = torch.tensor(self.velocities[: len(keys)])[:, None, None]

        def compute():
            self.calls += 1
            return x - sigma * velocity

        return reuse.model_call(x, torch.full((len(keys),), sigma), keys, compute)


def entered(computed, first=0) -> StepReuse:
    reuse = StepReuse(StaticRule(computed))
    reuse.enter_stage(SIGMAS, first)
    return reuse


def test_only_listed_steps_are_computed():
    reuse, model = entered((0, 2)), Model(2.0)
    assert [model(reuse, sigma, ["cond"])[1] for sigma in SIGMAS[:-1].tolist()] == [False, True, False, True, True]
    assert model.calls == 2


def test_reused_call_follows_the_last_derivative():
    reuse, model = entered((0,)), Model(2.0, -1.0)
    model(reuse, 1.0, ["cond", "uncond"])
    denoised, reused = model(reuse, 0.8, ["cond", "uncond"])
    assert reused
    torch.testing.assert_close(denoised[:, 0, 0], torch.tensor([0.8 - 0.8 * 2, 0.8 + 0.8 * 1]))


def test_conditionings_are_kept_apart_and_in_any_order():
    reuse = entered((0,))
    Model(2.0, -1.0)(reuse, 1.0, ["cond", "uncond"])
    model = Model(0.0, 0.0)
    assert model(reuse, 0.8, ["uncond", "cond"])[0][:, 0, 0].tolist() == [0.8 + 0.8, 0.8 - 1.6] or model.calls == 0
    assert model(reuse, 0.8, ["other"])[1] is False


def test_every_evaluation_of_a_step_is_treated_alike():
    """Heun: the second evaluation of step 0 is at sigma 1 of the schedule, and belongs to step 1."""
    reuse, model = entered((0, 2)), Model(2.0)
    assert [model(reuse, sigma, ["cond"])[1] for sigma in (1.0, 0.8, 0.8, 0.6, 0.6)] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert model(reuse, 0.5, ["cond"])[1] is False  # between steps 2 and 3


class Unreadable(torch.Tensor):
    """A noise level on a device that would have to be waited for."""

    def __float__(self):
        raise AssertionError("read")


def test_once_the_sampler_reports_its_steps_no_sigma_is_read():
    """Five steps, of which 1 and 3 are reused; a second evaluation after the report belongs to the next step."""
    reuse, x = entered((0, 2, 4)), torch.ones(1, 1, 4)
    unreadable = torch.tensor(0.9).as_subclass(Unreadable)
    reused = []
    for step, sigma in enumerate((torch.tensor(1.0), *[unreadable] * 4)):
        reuse.begin_evaluation(x, sigma)
        reused.append(reuse.model_call(x, torch.ones(1), ["cond"], lambda: x)[1])
        reuse.report_step(step)
    assert reused == [False, True, False, True, False]
    reuse.begin_evaluation(x, unreadable)  # past the last step: still the last
    assert reuse.model_call(x, torch.ones(1), ["cond"], lambda: x)[1] is False
    reuse.enter_stage(SIGMAS, 0)
    with pytest.raises(AssertionError, match="read"):
        reuse.begin_evaluation(x, unreadable)


def test_a_change_of_stage_or_shape_drops_what_was_kept():
    reuse, model = entered((0,)), Model(2.0)
    model(reuse, 1.0, ["cond"])
    assert model(reuse, 0.8, ["cond"], size=8)[1] is False
    reuse.enter_stage(SIGMAS, 0)
    assert model(reuse, 0.8, ["cond"], size=8)[1] is False


def test_steps_of_a_later_stage_are_counted_from_its_first():
    reuse, model = entered((5, 7), first=5), Model(2.0)
    assert [model(reuse, sigma, ["cond"])[1] for sigma in (1.0, 0.8, 0.6)] == [False, True, False]


class Listener(StaticRule):
    """Hears what the rule is told about computed outputs."""

    def __init__(self, computed):
        super().__init__(computed)
        self.heard = []

    def computed(self, key, before, now):
        self.heard.append((key, None if before is None else before.mean().item(), now.mean().item()))


def test_the_rule_hears_both_outputs_of_every_conditioning_that_it_had_computed():
    rule = Listener((0, 2))
    reuse = StepReuse(rule)
    reuse.enter_stage(SIGMAS, 0)
    Model(2.0, -1.0)(reuse, 1.0, ["cond", "uncond"])
    Model(9.0, 9.0)(reuse, 0.8, ["cond", "uncond"])
    Model(9.0)(reuse, 0.8, ["new"])  # of a step to reuse, so the rule does not wait for it
    Model(4.0, 0.5)(reuse, 0.6, ["cond", "uncond"])
    torch.testing.assert_close(
        [value for _, *values in rule.heard for value in values if value is not None], [2.0, -1.0, 2.0, 4.0, -1.0, 0.5]
    )
    assert [key for key, *_ in rule.heard] == ["cond", "uncond", "cond", "uncond"]
    assert [before is None for _, before, _ in rule.heard] == [True, True, False, False]


def test_an_output_of_another_size_is_nothing_to_compare_with():
    rule = Listener((0, 1))
    reuse = StepReuse(rule)
    reuse.enter_stage(SIGMAS, 0)
    Model(2.0)(reuse, 1.0, ["cond"])
    Model(3.0)(reuse, 0.8, ["cond"], size=8)
    assert [before for _, before, _ in rule.heard] == [None, None]
