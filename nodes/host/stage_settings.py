"""What a node chose for the stages of a run, and what becomes of it for one schedule."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from jenga.sampling.presets import (
    STAGES,
    Preset,
    StageRule,
    computed_steps,
    dial_of,
    keeps_trajectory,
    reuses_steps,
    split,
    whole_schedule_boundary,
)
from jenga.sampling.resolution import boundary_by_sigma
from jenga.sampling.reuse import StepReuse

from .families import preset_family
from .step_reuse import ADAPTIVE, FROM_PRESET, OFF, STATIC, THRESHOLD, PlannedRun, step_reuse

TRAJECTORY = "trajectory"  # the noisy latent itself goes on, at a switch
UPSAMPLE = "bicubic"  # of a switch that predicts clean, where nothing else is said


@dataclass(frozen=True)
class StageSettings:
    """What a node chose. rules: stages by hand, None takes the preset's. step_reuse: one of CHOICES.

    reuse_threshold: of adaptive: relative change of the model's output. upsample: how the latent gets from one size to
    the next, FROM_PRESET, TRAJECTORY or, of its clean prediction, one of jenga.sampling.resolution.RESIZE_MODES.
    stage_noise: dct or independent. notes: what every run reports. elsewhere(patcher): what of a node's choice
    counts where another node runs the stages, in words.
    """

    preset: str
    rules: tuple[StageRule, ...] | None = None
    step_reuse: str = FROM_PRESET
    reuse_threshold: float = THRESHOLD
    upsample: str = FROM_PRESET
    stage_noise: str = "dct"
    notes: tuple[str, ...] = ()
    elsewhere: Callable[[object], str] = lambda patcher: "nothing of it is used"

    @property
    def switch(self) -> str:
        """upsample, as the preset has it where that is to say: TRAJECTORY or a mode of `resize`."""
        if self.upsample != FROM_PRESET:
            return self.upsample
        return TRAJECTORY if self.rules is not None or keeps_trajectory(self.preset) else UPSAMPLE

    def plan(self, patcher, sigmas: torch.Tensor) -> Preset:
        """Stages and computed steps for a schedule. A part of one (two experts, denoise below 1) is cut where its
        sigmas say.
        """
        steps = max(0, sigmas.shape[-1] - 1)
        if not steps:
            return Preset((), ())
        family, sampling = preset_family(patcher), patcher.get_model_object("model_sampling")
        whole = is_whole(sigmas, sampling)

        def boundary(until: float) -> int:
            if whole:
                return whole_schedule_boundary(until, steps)
            step = boundary_by_sigma(sigmas, sampling.percent_to_sigma(until))
            return min(step, steps - (float(sigmas[-1]) == 0))  # the last step of all is one at full size

        stages = split(self.rules or STAGES[family][self.preset], steps, boundary)
        return Preset(stages, computed_steps(steps, stages, family))

    def reuse(
        self, plan: Preset, patcher, size: tuple[int, int], steps: int, note: Callable[[str], None]
    ) -> StepReuse | None:
        """The StepReuse of one run of that plan; None where every step is computed.

        size: latent rows and columns at full size. note: takes the words about what decides.
        """
        kind, threshold = self.step_reuse, self.reuse_threshold
        published = threshold
        if kind == FROM_PRESET and self.rules is None and (dial := dial_of(self.preset)):
            kind, threshold, published = ADAPTIVE, dial.threshold, dial.published_threshold
        elif kind == FROM_PRESET:
            kind = STATIC if self.rules is None and reuses_steps(self.preset) else OFF
        return step_reuse(kind, PlannedRun(plan, patcher, size, steps, threshold, published), note)


def is_whole(sigmas: torch.Tensor, model_sampling) -> bool:
    """Whether a schedule goes from all noise to none; a part of one is shared with other samplers, or starts late."""
    return float(sigmas[-1]) == 0 and float(sigmas[0]) >= 0.999 * float(model_sampling.sigma_max)
