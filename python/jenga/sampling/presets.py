"""The schedules behind the presets: resolution and kept share by stage, and which steps are computed.

A preset is one row of ROWS: the dial, which is ours, and the presets of the paper with the published numbers. `preset`
turns it into stages and computed steps for any number of steps; at 50 steps those of the paper are the published ones.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral

# Families with published schedules, by the names that STAGES and `preset` use, in words. "any": every other model.
FAMILIES = {
    "hunyuan-video": "HunyuanVideo",
    "hunyuan-video-i2v": "HunyuanVideo image to video",
    "wan-1.3b": "Wan 1.3B",
    "wan-14b": "Wan 14B",
    "any": "any other model",
}


@dataclass(frozen=True)
class StageRule:
    """scale: of height and width. until: the stage ends after the step at this fraction of the schedule; 1.0 is the
    end. shift_ratio: factor on the shift of the user's own schedule. density: share of key blocks kept; None leaves it
    to Jenga Attention.
    """

    scale: float
    until: float
    shift_ratio: float
    density: float | None


@dataclass(frozen=True)
class Stage:
    """Steps first .. stop - 1 of a schedule at one scale. density: kept share of key blocks, None: not set here."""

    first: int
    stop: int
    scale: float
    shift_ratio: float
    density: float | None


@dataclass(frozen=True)
class Preset:
    """Stages in order, and the steps whose model calls are computed; the others reuse the last computed ones."""

    stages: tuple[Stage, ...]
    computed: tuple[int, ...]


FIRST_STEP = "first step"  # the anchors' distance in which each layer is dense once
MOST_PUBLISHED = 0.2  # the largest threshold that TeaCache has for Wan 2.1 14B, text to video


@dataclass(frozen=True)
class Dial:
    """What the positions of the dial have besides stages. distance: each layer is dense on every distance-th step; 0:
    on the first step of each size. share: of key blocks kept between these. threshold: of adaptive step reuse, relative
    change of the model's output.
    """

    distance: int
    share: float
    threshold: float

    @property
    def published_threshold(self) -> float:
        """The threshold where published coefficients decide: no position was measured with these, so none goes beyond
        what was published with them.
        """
        return min(self.threshold, MOST_PUBLISHED)

    @property
    def anchor_distance(self) -> str:
        """The distance as *Jenga Attention* has it."""
        return str(self.distance) if self.distance else FIRST_STEP


@dataclass(frozen=True)
class PresetRow:
    """What a preset is, before the number of steps is known.

    purpose: in a few words, what it is for. stages: its rules; with a dial their kept shares are for a run that has no
    room for anchors. dial: None for the presets of the paper and few-step. published: keys of FAMILIES whose published
    rules are others. reuses_steps: whether it repeats the model's last output on some steps. keeps_trajectory: whether
    the noisy latent itself goes on at a change of size; else, as published, its clean prediction noised again.
    """

    name: str
    purpose: str
    stages: tuple[StageRule, ...]
    dial: Dial | None = None
    published: Mapping[str, tuple[StageRule, ...]] = field(default_factory=dict)
    reuses_steps: bool = True
    keeps_trajectory: bool = False

    def rules(self, model_family: str) -> tuple[StageRule, ...]:
        return self.published.get(model_family, self.stages)


def _two(scale: float, ratio: float, first: float, second: float) -> tuple[StageRule, ...]:
    return StageRule(scale, 0.5, 1.0, first), StageRule(1.0, 1.0, ratio, second)


def _three(*densities: float) -> tuple[StageRule, ...]:
    scales, untils, ratios = (0.5, 0.75, 1.0), (0.3, 0.5, 1.0), (1.0, 9 / 7, 11 / 7)
    return tuple(StageRule(*row) for row in zip(scales, untils, ratios, densities, strict=True))


# The dial is ours: points of the measured frontier (docs/frontier.md). Anchors and adaptive reuse are worth more than
# small stages are: only fast has one. From one position to the next anchors are fewer; fast has one a layer and size,
# since the second ones would come late in so few steps and cost a sixth of the run.
#
# base to 3-stage: numbers from the paper. A family without a published row of its own takes HunyuanVideo's.
#
# few-step is ours, a point of the frontier too. A dense warm-up would cost half of such a run, so all steps are carved,
# and compensation stands in for the warm-up. The small stage is short (two steps of 4 to 7, three of 8), since every
# step decides more; half the size is nearer to dense there than three quarters at the same seconds. The schedule keeps
# its shift: a distilled model knows few noise levels. No step is reused: neighbouring steps have little in common.
ROWS = (
    PresetRow("near-lossless", "the closest result", (StageRule(1.0, 1.0, 1.0, 0.6),), Dial(2, 0.1, 0.1)),
    PresetRow("high", "close", (StageRule(1.0, 1.0, 1.0, 0.4),), Dial(4, 0.1, 0.2)),
    PresetRow("balanced", "the default of *Jenga*", (StageRule(1.0, 1.0, 1.0, 0.3),), Dial(6, 0.1, 0.3)),
    PresetRow(
        "fast",
        "drafts",
        (StageRule(0.75, 0.25, 1.0, 0.2), StageRule(1.0, 1.0, 1.0, 0.2)),
        Dial(0, 0.05, 0.8),
        keeps_trajectory=True,
    ),
    PresetRow(
        "base",
        "of the paper, at full size",
        _two(1.0, 1.0, 0.25, 0.15),
        published={"wan-14b": _two(1.0, 1.0, 0.3, 0.2)},
    ),
    PresetRow(
        "turbo",
        "of the paper, its middle",
        _two(0.75, 9 / 7, 0.3, 0.2),
        published={"wan-1.3b": _two(0.75, 10 / 8, 0.25, 0.15), "wan-14b": _two(0.75, 10 / 8, 0.5, 0.1)},
    ),
    PresetRow("flash", "of the paper, drafts", _two(0.75, 9 / 7, 0.2, 0.05)),
    PresetRow("3-stage", "of the paper, in three sizes", _three(0.25, 0.15, 0.15)),
    PresetRow(
        "few-step",
        "4 to 8 steps with a distilled LoRA at CFG 1",
        (StageRule(0.5, 0.25, 1.0, 0.18), StageRule(1.0, 1.0, 1.0, 0.18)),
        reuses_steps=False,
        keeps_trajectory=True,
    ),
)
PRESETS = tuple(row.name for row in ROWS)
STAGE_ROWS = tuple(row for row in ROWS if row.dial is None)  # what stages and listed steps say wholly
STAGES: dict[str, dict[str, tuple[StageRule, ...]]] = {
    family: {row.name: row.rules(family) for row in ROWS} for family in FAMILIES
}


def reuses_steps(name: str) -> bool:
    """Whether a preset repeats the model's last output on some steps."""
    return _row(name).reuses_steps


def dial_of(name: str) -> Dial | None:
    """What a preset has besides stages; None for those that have no more."""
    return _row(name).dial


def keeps_trajectory(name: str) -> bool:
    """Whether a preset lets the noisy latent itself go on at a change of size."""
    return _row(name).keeps_trajectory


def _row(name: str) -> PresetRow:
    return next(row for row in ROWS if row.name == name)


def preset(name: str, model_family: str, steps: int) -> Preset:
    """Stages and computed steps of a preset for a whole schedule of `steps` steps.

    name: a key of STAGES[model_family]; model_family: a key of STAGES. All steps count as computed where the run itself
    decides (dial). Raises ValueError for unknown names and for steps below 1. Source: paper at 50 steps, else ours.
    """
    if model_family not in STAGES:
        raise ValueError(f"preset: model_family must be one of {', '.join(STAGES)}, got {model_family!r}")
    rules = STAGES[model_family].get(name)
    if rules is None:
        raise ValueError(f"preset: name must be one of {', '.join(STAGES[model_family])}, got {name!r}")
    if not isinstance(steps, Integral) or steps < 1:
        raise ValueError(f"preset: steps must be at least 1, got {steps!r}")
    stages = split(rules, steps, lambda until: whole_schedule_boundary(until, steps))
    listed = reuses_steps(name) and dial_of(name) is None
    computed = computed_steps(steps, stages, model_family) if listed else tuple(range(steps))
    return Preset(stages, computed)


def whole_schedule_boundary(until: float, steps: int) -> int:
    """First step after a stage that ends at fraction `until`: the step at that fraction still belongs to it, and the
    last step of the schedule never does.
    """
    return min(int(steps * until) + 1, steps - 1)


def split(rules: Iterable[StageRule], steps: int, boundary: Callable[[float], int]) -> tuple[Stage, ...]:
    """Rules to stages; boundary(until) is the first step after a stage. Stages without steps vanish."""
    stages, first = [], 0
    for rule in rules:
        stop = steps if rule.until >= 1 else min(max(boundary(rule.until), first), steps)
        if stop > first:
            stages.append(Stage(first, stop, rule.scale, rule.shift_ratio, rule.density))
        first = stop
    return tuple(stages)


# Published lists of computed steps: (up to this fraction of the steps, distance to the next computed step at 50 steps).
_GAPS = ((0.08, 1), (0.82, 3), (0.90, 2), (0.94, 1), (1.0, 2))
_GAPS_OF = {"hunyuan-video-i2v": ((0.06, 1), (0.14, 2), (0.80, 3), (0.88, 2), (1.0, 1))}
FEWEST_STEPS = 12  # with fewer, one reused step spans too much of the schedule


def computed_steps(steps: int, stages: tuple[Stage, ...], model_family: str = "any") -> tuple[int, ...]:
    """Steps whose model calls are computed: dense at both ends, every third (at 50 steps) in between, the first after
    every change of resolution and the last.

    Distances keep their length in the schedule (six steps of 100 are three of 50), at least every second step is
    computed, and with fewer than 12 steps all are.
    """
    gaps = _GAPS_OF.get(model_family, _GAPS)
    longest = max(round(3 * steps / 50), 2) if steps >= FEWEST_STEPS else 1
    restarts = {b.first for a, b in zip(stages, stages[1:], strict=False) if a.scale != b.scale}
    if gaps is _GAPS:
        restarts.add(steps // 2 + 1)  # in the published list of every preset, with or without a change there
    computed, next_step = [], 0
    for step in range(steps):
        if step >= next_step or step in restarts or step == steps - 1:
            computed.append(step)
            gap = next(gap for until, gap in gaps if (step + 0.5) / steps < until)
            next_step = step + max(1, round(longest * gap / 3))
    return tuple(computed)
