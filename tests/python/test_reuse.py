"""Step reuse: which calls are made, and what a call that is not made returns."""

import pytest
import torch

from jenga.reuse import InputChangeRule, StaticRule, StepReuse

SIGMAS = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])


class Model:
    """Denoised x0 = x - sigma * v with a velocity of its own for every part of the batch; counts its calls."""

    def __init__(self, *velocities: float):
        self.velocities, self.calls = velocities, 0

    def __call__(self, reuse: StepReuse, sigma: float, keys: list[str], size: int = 4) -> tuple[torch.Tensor, bool]:
        x = torch.full((len(keys), 1, size), sigma)
        reuse.begin_evaluation(x, sigma)
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


def test_a_change_of_stage_or_shape_drops_what_was_kept():
    reuse, model = entered((0,)), Model(2.0)
    model(reuse, 1.0, ["cond"])
    assert model(reuse, 0.8, ["cond"], size=8)[1] is False
    reuse.enter_stage(SIGMAS, 0)
    assert model(reuse, 0.8, ["cond"], size=8)[1] is False


def test_steps_of_a_later_stage_are_counted_from_its_first():
    reuse, model = entered((5, 7), first=5), Model(2.0)
    assert [model(reuse, sigma, ["cond"])[1] for sigma in (1.0, 0.8, 0.6)] == [False, True, False]


def ways(rule: InputChangeRule, *latents: float, first: int = 0) -> list[bool]:
    return [rule.reuses(first + step, torch.full((2, 3), value)) for step, value in enumerate(latents)]


def test_a_latent_that_stands_still_is_reused_and_the_ends_are_computed():
    assert ways(InputChangeRule(0.1, 5), 1.0, 1.0, 1.0, 1.0, 1.0) == [False, True, True, True, False]


def test_small_ways_add_up_to_a_computed_step():
    """5 % a step: below .12 after one and two of them, not after three."""
    latents = [1.05**n for n in range(8)]
    assert ways(InputChangeRule(0.12, 100), *latents) == [False, True, True, False, True, True, False, True]


def test_there_and_back_is_a_long_way():
    assert ways(InputChangeRule(0.15, 100), 1.0, 1.1, 1.0, 1.1) == [False, True, False, True]


def test_the_sign_of_the_latent_does_not_cancel():
    rule = InputChangeRule(0.15, 100)
    x = torch.tensor([1.0, -1.0])
    assert [rule.reuses(0, x), rule.reuses(1, 1.1 * x), rule.reuses(2, 1.2 * x)] == [False, True, False]


def test_a_latent_that_the_sampler_changes_in_place_is_seen():
    rule, x = InputChangeRule(0.5, 100), torch.ones(4)
    assert rule.reuses(0, x) is False
    x *= 2
    assert rule.reuses(1, x) is False


@pytest.mark.parametrize("size", [4, 8])
def test_the_first_prediction_of_a_stage_is_computed(size):
    rule = InputChangeRule(10.0, 100)
    assert ways(rule, 1.0, 1.0) == [False, True]
    rule.enter_stage()
    assert rule.reuses(2, torch.ones(size)) is False
