"""Stages of a run: the noisy steps on a smaller latent, the rest at full size, as one OUTER_SAMPLE wrapper.

A stage is one call of ComfyUI's own outer_sample on its slice of the schedule, with the conditions as they came in;
switch.py says the latent and the noise that it starts from. ComfyUI loads the model for every such call, so that memory
is estimated for the size that runs.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from jenga.runtime.run import StageState
from jenga.sampling.presets import Stage
from jenga.sampling.resolution import passes, stage_seed, stage_size, text_amplifier

from . import private, runs, status
from .families import packed_reason, patch_sides
from .other_patches import KeepsSize, Kept, keepers
from .sampler_entry import SamplerEntry
from .stage_settings import StageSettings, is_whole
from .step_reuse import NONE_REUSED
from .switch import Call, Result, switch
from .unpatch import is_patched


def outer_sample(settings: StageSettings, node_id: str | None) -> Callable:
    """An OUTER_SAMPLE wrapper that runs the stages, unless another node has started a run: a run has one owner."""

    def wrapper(executor, *args, **kwargs):
        guider = executor.class_obj
        owner = runs.running_stage(guider.model_options)
        if owner is not None:
            reason = f"another node runs the stages, not the Jenga node: {settings.elsewhere(guider.model_patcher)}"
            owner.run.listener.note(reason)
            status.say(node_id, reason)
            return executor(*args, **kwargs)
        given = guider.model_options
        kept = Kept.of(given)
        try:
            guider.model_options = private.clone_options(given)
            return StagedRun(settings, SamplerEntry(executor, *args, **kwargs), node_id).sample()
        except KeepsSize as found:
            kept.restore()
            guider.model_options = private.clone_options(given)
            return StagedRun(settings, SamplerEntry(executor, *args, **kwargs), node_id, str(found)).sample()
        finally:
            guider.model_options = given

    return wrapper


class StagedRun:
    """The stages of one sampler entry, one after the other."""

    def __init__(self, settings: StageSettings, entry: SamplerEntry, node_id: str | None, full_size: str = ""):
        """full_size: why all steps must run at full size, where that is known already."""
        self.settings, self.entry, self.node_id, self.full_size = settings, entry, node_id, full_size
        self.patcher = entry.guider.model_patcher
        self.model_sampling = self.patcher.get_model_object("model_sampling")
        self.steps = max(0, entry.sigmas.shape[-1] - 1)
        self.plan = settings.plan(self.patcher, entry.sigmas)
        self.state = StageState(runs.new_run(entry.guider.model_options))
        self.report = self.state.run.listener
        self.switch = switch(settings, entry, self.patcher, self.report.note)
        self.size = entry.parts.size
        self.done = self.steps_before = 0  # steps of this pass that the sampler reported, and of the passes before it
        self.reuse = settings.reuse(self.plan, self.patcher, entry.parts.size, self.steps, self.report.note)

    def sample(self) -> torch.Tensor:
        """What outer_sample returns: the samples, at full size."""
        runs.report_slot(self.patcher).begin(self.report, self.patcher)
        if not is_patched(self.patcher):
            self.report.note("no Jenga Attention on the model: nothing is carved, text is not amplified")
        for note in self.settings.notes:
            self.report.note(note)
        stages = self.switch.stages(self.plan.stages)
        reason = self.full_size or self._full_size_reason(stages)
        if reason:
            self.report.note(f"all steps at full size: {reason}")
            stages = tuple(replace(stage, scale=1.0, shift_ratio=1.0) for stage in stages)
        elif any(stage.shift_ratio != 1 for stage in stages) and not is_whole(self.entry.sigmas, self.model_sampling):
            # The sampler before or after this one meets it at these sigmas, and denoise below 1 means them.
            self.report.note("no shift by stage: a part of a schedule keeps its sigmas")
            stages = tuple(replace(stage, shift_ratio=1.0) for stage in stages)
        runs.install(self.state, self.entry.guider, self._predicted, self.reuse)
        try:
            return self._sample(stages)
        finally:
            self.state.run.close()
            if self.reuse is not None:
                self.reuse.close()
                if not self.report.reused:
                    self.report.note(f"{NONE_REUSED}; with adaptive, a larger reuse_threshold reuses more")
            self._say()

    def _sample(self, stages: tuple[Stage, ...]) -> torch.Tensor:
        groups = passes(stages) or [[Stage(0, 0, 1.0, 1.0, None)]]
        calls = [self._call(index, group) for index, group in enumerate(groups)]
        self.entry.whole_schedule(torch.cat([*(call.sigmas[:-1] for call in calls), calls[-1].sigmas[-1:]]))
        result = None
        for call, group in zip(calls, groups, strict=True):
            latent, noise = self.switch.start(call, result)
            if result is not None:
                self.state.run.drop_anchors()
            result = self._sample_pass(call, group, latent, noise)
            end = group[0].first + result.stop
            if end < group[-1].stop or call is calls[-1]:
                return self.switch.hand_over(result, end) if group[0].scale < 1 else result.samples
        raise AssertionError("the last pass returns")

    def _call(self, index: int, group: list[Stage]) -> Call:
        entry, size = self.entry, self._size(group[0].scale)
        sigmas = self.switch.sigmas(group[0].first, group[-1].stop, group[0].shift_ratio, size)
        mask = None if entry.mask is None else entry.parts.resized(entry.mask, size, "bilinear")
        return Call(index, entry.parts.at(size), sigmas, mask)

    def _sample_pass(self, call: Call, group: list[Stage], latent: torch.Tensor, noise: torch.Tensor) -> Result:
        entry, first, found = self.entry, group[0].first, []
        if self.reuse is not None:
            self.reuse.enter_stage(call.sigmas, first)

        def callback(step, x0, x, _):
            found[:] = [x0]
            self.done = step + 1
            if self.reuse is not None:
                self.reuse.report_step(step)
            entry.show(call.parts, step + first, x0, x, self.steps)
            self._enter_step(group, first + step + 1)

        self._enter_size(call.parts.size, group[0].scale)
        self._enter_step(group, first)
        self.done, self.steps_before = 0, first
        seed = None if entry.seed is None else stage_seed(entry.seed, call.index)
        steps = len(call.sigmas) - 1
        with self.report.stage(self.state.scale, tuple(call.parts.shapes[0]), max(0, steps)):
            samples = entry.sample(call.parts, noise, latent, entry.sampler, call.sigmas, call.mask, callback, seed)
        return Result(call, samples, found[0] if found else None, self._stopped_at(call.sigmas) or steps)

    def _stopped_at(self, sigmas: torch.Tensor) -> int | None:
        """The step of this pass before which the sampler stopped without using the rest of its schedule, which ends the
        run. None where it went on to the end, in however many steps.
        """
        run, done = self.state.run, self.done
        if not 0 < done < len(sigmas) - 1 or run.sigma is None or float(run.sigma.max()) < float(sigmas[done]) * 0.9999:
            return None
        self.report.note(
            f"the sampler left steps over: the run ends at step {self.steps_before + done} of {self.steps}"
        )
        return done

    def _full_size_reason(self, stages: tuple[Stage, ...]) -> str:
        """Why all steps must run at full size on one schedule; empty where they need not."""
        image, noise, parts = self.entry.image, self.entry.noise, self.entry.parts
        smallest = min((stage.scale for stage in stages), default=1.0)
        if parts.packed and len(passes(stages)) > 1 and (reason := packed_reason(self.patcher)):
            return reason
        if smallest == 1:
            return ""
        fixed = self.entry.conditions.fixed()
        if fixed:
            return f"the conditioning has {', '.join(fixed)}, which does not follow the size"
        if torch.count_nonzero(noise) == 0 and torch.count_nonzero(image) > 0:
            return "noise is disabled and the latent is not empty: it carries its noise already"
        try:
            self._size(smallest)
        except ValueError as error:
            return str(error)
        return self._kept_reason(parts.size)

    def _kept_reason(self, size: tuple[int, int]) -> str:
        """Which patch keeps a tensor of that latent size; empty where none does."""
        names = keepers(self.entry.guider.model_options, size, patch_sides(self.patcher), self.entry.sampler)
        return f"{', '.join(names)} keeps a tensor of the latent's size, {size[0]}×{size[1]}" if names else ""

    def _size(self, scale: float) -> tuple[int, int]:
        return stage_size(self.entry.parts.size, scale, patch_sides(self.patcher))

    def _enter_size(self, size: tuple[int, int], scale: float) -> None:
        self.size, self.state.scale = size, scale
        self.state.text_logit_bias = text_amplifier(size, self.entry.parts.size) if scale < 1 else 0.0

    def _enter_step(self, group: list[Stage], step: int) -> None:
        """Stages of one size share a sampler call: only the kept share changes between them."""
        for stage in group:
            if stage.first <= step < stage.stop:
                self.state.density = stage.density

    def _predicted(self) -> None:
        """After every prediction. The first of a small stage shows whether a patch kept something of its size."""
        if self.state.scale < 1:
            reason = self.state.run.once("kept size", lambda: self._kept_reason(self.size))
            if reason:
                raise KeepsSize(reason)
        self._say()

    def _say(self) -> None:
        stages = self.report.stages
        size = "×".join(map(str, stages[-1].latent_shape[-2:])) if stages else ""
        status.say(self.node_id, f"stage {len(stages)}, latent {size}; {self.report.line()}")
