"""Schedules: the published numbers at 50 steps, and sound ones at any other number."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jenga
from jenga.sampling.presets import (
    FEWEST_STEPS,
    PRESETS,
    STAGE_ROWS,
    STAGES,
    StageRule,
    computed_steps,
    dial_of,
    preset,
    reuses_steps,
    split,
    whole_schedule_boundary,
)

T2V = (0, 1, 2, 3, 4, 7, 10, 13, 16, 19, 22, 25, 26, 29, 32, 35, 38, 41, 43, 45, 46, 47, 49)
I2V = (0, 1, 2, 3, 5, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37, 40, 42, 44, 45, 46, 47, 48, 49)


PUBLISHED = [row.name for row in STAGE_ROWS if row.name != "few-step"]
DIAL = ("near-lossless", "high", "balanced", "fast")


@pytest.mark.parametrize("name", PUBLISHED)
def test_computed_steps_at_50_are_the_published_ones(name):
    assert preset(name, "hunyuan-video", 50).computed == T2V
    assert preset(name, "wan-14b", 50).computed == T2V


def test_image_to_video_has_its_own_published_list():
    assert preset("base", "hunyuan-video-i2v", 50).computed == I2V


def test_published_stages_at_50():
    assert [(s.first, s.stop, s.scale) for s in preset("turbo", "hunyuan-video", 50).stages] == [
        (0, 26, 0.75),
        (26, 50, 1.0),
    ]
    assert [(s.first, s.stop, s.scale) for s in preset("3-stage", "hunyuan-video", 50).stages] == [
        (0, 16, 0.5),
        (16, 26, 0.75),
        (26, 50, 1.0),
    ]
    assert [s.density for s in preset("flash", "hunyuan-video", 50).stages] == pytest.approx([0.2, 0.05])
    assert [7 * s.shift_ratio for s in preset("3-stage", "hunyuan-video", 50).stages] == pytest.approx([7, 9, 11])
    assert [8 * s.shift_ratio for s in preset("turbo", "wan-1.3b", 50).stages] == pytest.approx([8, 10])


def test_five_steps_switch_after_the_third_and_compute_all():
    five = preset("turbo", "hunyuan-video", 5)
    assert [(s.first, s.stop) for s in five.stages] == [(0, 3), (3, 5)]
    assert five.computed == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("family", STAGES)
def test_few_steps_have_a_short_small_stage_and_no_reuse(family):
    for steps, small in ((2, 1), (4, 2), (5, 2), (6, 2), (7, 2), (8, 3)):
        few = preset("few-step", family, steps)
        assert [(s.first, s.stop, s.scale) for s in few.stages] == [(0, small, 0.5), (small, steps, 1.0)]
        assert {s.shift_ratio for s in few.stages} == {1.0}
    assert preset("few-step", family, 50).computed == tuple(range(50))
    assert [name for name in PRESETS if not reuses_steps(name)] == ["few-step"]


@pytest.mark.parametrize("family", STAGES)
@pytest.mark.parametrize("name", PRESETS)
def test_every_number_of_steps_is_covered(family, name):
    for steps in range(1, 121):
        result = preset(name, family, steps)
        assert [s.first for s in result.stages] == [0, *(s.stop for s in result.stages[:-1])]
        assert result.stages[-1].stop == steps
        assert result.stages[-1].scale == 1.0
        assert result.computed[0] == 0 and result.computed[-1] == steps - 1
        switches = {b.first for a, b in zip(result.stages, result.stages[1:], strict=False) if a.scale != b.scale}
        assert switches <= set(result.computed)
        longest = max(round(3 * steps / 50), 2) if steps >= FEWEST_STEPS and name not in DIAL else 1
        assert max((b - a for a, b in zip(result.computed, result.computed[1:], strict=False)), default=1) <= longest


def test_the_dial_goes_from_the_closest_to_the_fastest():
    """Less is dense, less is kept, more is reused, and the stages get smaller, from one position to the next."""
    assert PRESETS[: len(DIAL)] == DIAL
    dials = [dial_of(name) for name in DIAL]
    for closer, faster in zip(dials, dials[1:], strict=False):
        assert closer != faster
        assert closer.distance < (faster.distance or math.inf) and closer.share >= faster.share
        assert closer.threshold <= faster.threshold
    assert [one.distance for one in dials] == [2, 4, 6, 0]
    assert [STAGES["any"][name][0].scale for name in DIAL] == [1.0, 1.0, 1.0, 0.75]
    assert [name for name in PRESETS if dial_of(name)] == list(DIAL)
    assert preset("balanced", "any", 50).computed == tuple(range(50))  # what is reused shows in the run


def split_at(steps, ends):
    """Ranges of steps of stages that end at these fractions, by index into `ends`."""
    rules = [StageRule(1.0, end, 1.0, density=index) for index, end in enumerate(ends)]
    stages = split(rules, steps, lambda until: whole_schedule_boundary(until, steps))
    return {stage.density: (stage.first, stage.stop) for stage in stages}


@given(st.integers(1, 100), st.lists(st.floats(0, 1), max_size=4))
def test_stages_cover_every_step_once(steps, ends):
    ranges = split_at(steps, [*sorted(ends), 1.0]).values()
    assert [step for first, stop in ranges for step in range(first, stop)] == list(range(steps))
    assert all(stop > first for first, stop in ranges)


def test_cuts_truncate_the_product():
    assert split_at(100, [0.29, 1]) == {0: (0, 29), 1: (29, 100)}  # .29 * 100 is 28.999999999999996
    assert split_at(100, [0.3, 1]) == {0: (0, 31), 1: (31, 100)}


def test_stages_without_steps_vanish():
    assert split_at(4, [0.25, 0.3, 0.5, 1]) == {0: (0, 2), 2: (2, 3), 3: (3, 4)}
    assert split_at(1, [0.5, 1]) == {1: (0, 1)}
    assert split_at(8, [1, 1]) == {0: (0, 8)}


def test_the_last_step_is_never_in_a_stage_that_ends_before():
    assert split_at(2, [0.5, 1]) == {0: (0, 1), 1: (1, 2)}
    assert split_at(8, [0.99, 1]) == {0: (0, 7), 1: (7, 8)}


def test_a_change_of_size_is_computed_wherever_it_is():
    stages = preset("3-stage", "any", 40).stages
    assert stages[1].first in computed_steps(40, stages)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("fastest", "any", 20), "name must be one of near-lossless, high, balanced, fast, base, turbo"),
        (("turbo", "sdxl", 20), "model_family must be one of"),
        (("turbo", "any", 0), "steps must be at least 1, got 0"),
    ],
)
def test_unknown_names_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        preset(*arguments)


def test_public_names():
    assert jenga.STAGES is STAGES
    assert jenga.preset is preset
