"""Stages of a run: the noisy steps on a smaller latent, the rest at full size, as one OUTER_SAMPLE wrapper.

A stage is one call of ComfyUI's own outer_sample on its slice of the schedule, with the conditions as they came in.
Between stages the predicted clean latent is enlarged and goes back in as the next stage's latent; ComfyUI itself noises
it to the first sigma of that stage. It also loads the model for every such call, so that memory is estimated for the
size that runs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import comfy.model_sampling
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP

from jenga.patch import FORWARD_KEY, StageState
from jenga.presets import (
    STAGES,
    Preset,
    Stage,
    StageRule,
    computed_steps,
    reuses_steps,
    split,
    whole_schedule_boundary,
)
from jenga.reuse import StepReuse
from jenga.reuse_rules import StaticRule
from jenga.sampler import (
    boundary_by_sigma,
    dct_truncate,
    passes,
    resize,
    shift_sigmas,
    stage_seed,
    stage_size,
    text_amplifier,
)

from . import runs, status
from .families import preset_family
from .step_reuse import THRESHOLD, adaptive_rule

# Conditions of the latent's size that ComfyUI does not resize with it, and how a stage gets them at its own.
RESIZED_CONDITIONS = {
    "vace_frames": "bilinear",
    "vace_mask": "nearest-exact",  # 64 channels of yes or no
    "time_dim_concat": "bilinear",
    "ref_latent": "bilinear",
}
# Those that need more than another size: with one of these every step runs at full size.
FIXED_SIZE_CONDITIONS = (
    "reference_latents",
    "reference_latent",
    "reference_motion",
    "context_latents",
    "control_video",
    "camera_conditions",
    "pose_video_latent",
    "face_video_pixels",
    "driving_mask_28ch",
    "keyframe_idxs",
)


@dataclass(frozen=True)
class StageSettings:
    """What a node chose. rules: stages by hand, None takes the preset's. step_reuse: one of CHOICES.

    reuse_threshold: of adaptive: relative change of the model's output. upsample: one of jenga.sampler.RESIZE_MODES.
    stage_noise: dct or independent.
    """

    preset: str
    rules: tuple[StageRule, ...] | None = None
    step_reuse: str = "from preset"
    reuse_threshold: float = THRESHOLD
    upsample: str = "bicubic"
    stage_noise: str = "dct"

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
        from_preset = self.step_reuse == "from preset" and self.rules is None and reuses_steps(self.preset)
        if self.step_reuse == "static" or from_preset:
            return StepReuse(StaticRule(plan.computed)) if len(plan.computed) < steps else None
        if self.step_reuse != "adaptive" or self.reuse_threshold == 0:  # a published sum may be below 0
            return None
        rule, words = adaptive_rule(patcher, size, self.reuse_threshold, steps)
        note(f"step reuse: adaptive {words}")
        return StepReuse(rule)


def is_whole(sigmas: torch.Tensor, model_sampling) -> bool:
    """Whether a schedule goes from all noise to none; a part of one is shared with other samplers, or starts late."""
    return float(sigmas[-1]) == 0 and float(sigmas[0]) >= 0.999 * float(model_sampling.sigma_max)


def outer_sample(settings: StageSettings, node_id: str | None) -> Callable:
    """An OUTER_SAMPLE wrapper that runs the stages, unless another node has started a run: a run has one owner."""

    def wrapper(executor, *args, **kwargs):
        owner = runs.stage_of(executor.class_obj.model_options)
        if owner is None:
            return StagedRun(settings, SamplerEntry(executor, *args, **kwargs), node_id).sample()
        reason = f"another node runs the stages: preset {settings.preset} of the Jenga node is not used"
        owner.run.report.note(reason)
        status.say(node_id, reason)
        return executor(*args, **kwargs)

    return wrapper


class SamplerEntry:
    """One entry of ComfyUI's outer_sample: its arguments, and that call made again for every stage.

    Latents are in the latent space of the graph; those of video with audio are packed [B, 1, N].
    """

    def __init__(
        self,
        executor,
        noise,
        latent_image,
        sampler,
        sigmas,
        denoise_mask=None,
        callback=None,
        disable_pbar=False,
        seed=None,
        **kwargs,
    ):
        self.executor, self.guider = executor, executor.class_obj
        self.noise, self.image, self.sampler, self.sigmas = noise, latent_image, sampler, sigmas
        self.mask, self.callback, self.disable_pbar, self.seed = denoise_mask, callback, disable_pbar, seed
        self.kwargs = kwargs  # latent_shapes, which older versions of ComfyUI do not pass
        self.conds = self.guider.conds

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The latents' shapes: one, or those of video and audio."""
        return self.kwargs.get("latent_shapes") or [self.image.shape]

    def sample(self, noise, latent, sampler, sigmas, mask, callback, seed):
        # Copies: sampling writes what it made for one size into the conditions.
        conds = {name: [cond.copy() for cond in group] for name, group in self.conds.items()}
        if latent.shape[-2:] != self.image.shape[-2:]:
            for cond in (cond for group in conds.values() for cond in group):
                _resize_condition(cond, latent.shape[-2:])
        self.guider.conds = conds
        kwargs = self.kwargs
        if "latent_shapes" in kwargs and len(self.shapes) == 1:
            kwargs = {**kwargs, "latent_shapes": [latent.shape]}
        return self.executor(noise, latent, sampler, sigmas, mask, callback, self.disable_pbar, seed, **kwargs)


class StagedRun:
    """The stages of one sampler entry, one after the other."""

    def __init__(self, settings: StageSettings, entry: SamplerEntry, node_id: str | None):
        self.settings, self.entry, self.node_id = settings, entry, node_id
        self.patcher = entry.guider.model_patcher
        self.model_sampling = self.patcher.get_model_object("model_sampling")
        self.steps = max(0, entry.sigmas.shape[-1] - 1)
        self.plan = settings.plan(self.patcher, entry.sigmas)
        self.state = StageState(runs.new_run(entry.guider.model_options))
        self.report = self.state.run.report
        size = tuple(entry.shapes[0][-2:])
        self.reuse = settings.reuse(self.plan, self.patcher, size, self.steps, self.report.note)

    def sample(self) -> torch.Tensor:
        """What outer_sample returns: the samples, at full size."""
        runs.report_slot(self.patcher).begin(self.report)
        if not self.patcher.get_wrappers(WrappersMP.APPLY_MODEL, FORWARD_KEY):
            self.report.note("no Jenga Attention on the model: nothing is carved, text is not amplified")
        stages = self.plan.stages
        reason = self._full_size_reason(stages)
        if reason:
            self.report.note(f"all steps at full size: {reason}")
            stages = tuple(replace(stage, scale=1.0, shift_ratio=1.0) for stage in stages)
        elif any(stage.shift_ratio != 1 for stage in stages) and not is_whole(self.entry.sigmas, self.model_sampling):
            # The sampler before or after this one meets it at these sigmas, and denoise below 1 means them.
            self.report.note("no shift by stage: a part of a schedule keeps its sigmas")
            stages = tuple(replace(stage, shift_ratio=1.0) for stage in stages)
        runs.install(self.state, self.entry.guider.model_options, self._say, self.reuse)
        try:
            return self._sample(stages)
        finally:
            self.state.run.close()
            if self.reuse is not None:
                self.reuse.close()
            self._say()

    def _sample(self, stages: tuple[Stage, ...]) -> torch.Tensor:
        entry, current = self.entry, self.entry.image
        groups = passes(stages) or [[Stage(0, 0, 1.0, 1.0, None)]]
        for index, group in enumerate(groups):
            first, scale = group[0].first, group[0].scale
            mask = self._mask(scale)
            current = self._resized(current, scale)
            if index:
                current = self._restore_masked(current, mask, scale)
                self.state.run.drop_anchors()
            sigmas = self._sigmas_of(group)
            if self.reuse is not None:
                self.reuse.enter_stage(sigmas, first)
            found: list[torch.Tensor] = []

            def callback(step, x0, x, _, group=group, first=first, found=found):
                found[:] = [x0]
                if entry.callback is not None:
                    entry.callback(step + first, x0, x, self.steps)
                self._enter_step(stages, group, first + step + 1)

            self._enter_size(current, scale)
            self._enter_step(stages, group, first)
            samples = self._sample_pass(index, current, sigmas, mask, callback)
            if index + 1 < len(groups) or scale < 1:
                current = self._clean(found, samples, sigmas[-1:], mask)
        return self._handed_over(current) if scale < 1 else samples

    def _full_size_reason(self, stages: tuple[Stage, ...]) -> str:
        """Why all steps must run at full size on one schedule; empty where they need not."""
        image, noise = self.entry.image, self.entry.noise
        smallest = min((stage.scale for stage in stages), default=1.0)
        if len(self.entry.shapes) > 1 and len(passes(stages)) > 1:
            return "the latent holds video and audio"
        if smallest == 1:
            return ""
        conds = [cond for group in self.entry.conds.values() for cond in group]
        fixed = [key for key in FIXED_SIZE_CONDITIONS if any(cond.get(key) is not None for cond in conds)]
        fixed += [
            f"{key} of another size"
            for key in RESIZED_CONDITIONS
            if any(x.shape[-2:] != image.shape[-2:] for cond in conds for x in _tensors(cond.get(key)))
        ]
        fixed += ["area"] if any(cond["area"][0] != "percentage" for cond in conds if "area" in cond) else []
        if fixed:
            return f"the conditioning has {', '.join(fixed)}, which does not follow the size"
        if torch.count_nonzero(noise) == 0 and torch.count_nonzero(image) > 0:
            return "noise is disabled and the latent is not empty: it carries its noise already"
        try:
            stage_size(image.shape[-2:], smallest, self._patch_sides())
        except ValueError as error:
            return str(error)
        return ""

    def _patch_sides(self) -> tuple[int, int]:
        """Latent rows and columns in one patch; 8 where the model does not say (the depth of a U-Net)."""
        patch = getattr(self.patcher.model.diffusion_model, "patch_size", 8)
        return (patch, patch) if isinstance(patch, int) else tuple(patch)[-2:]

    def _size(self, scale: float) -> tuple[int, int]:
        return stage_size(tuple(self.entry.image.shape[-2:]), scale, self._patch_sides())

    def _resized(self, x: torch.Tensor, scale: float) -> torch.Tensor:
        return resize(x, *self._size(scale), self.settings.upsample)

    def _mask(self, scale: float) -> torch.Tensor | None:
        mask = self.entry.mask
        return mask if mask is None or scale == 1 else resize(mask, *self._size(scale), "bilinear")

    def _restore_masked(self, x: torch.Tensor, mask: torch.Tensor | None, scale: float) -> torch.Tensor:
        """What the noise mask protects comes from the latent that came in, not from its copy of another size."""
        if mask is None:
            return x
        keep = mask.to(x)
        return x * keep + self._resized(self.entry.image, scale).to(x) * (1 - keep)

    def _sigmas_of(self, group: list[Stage]) -> torch.Tensor:
        part = self.entry.sigmas[group[0].first : group[-1].stop + 1]
        flow = isinstance(self.model_sampling, comfy.model_sampling.CONST)
        return shift_sigmas(part, group[0].shift_ratio, flow, float(self.model_sampling.sigma_max))

    def _enter_size(self, current: torch.Tensor, scale: float) -> None:
        self.state.scale = scale
        full = self.entry.image.shape[-2:]
        self.state.text_logit_bias = text_amplifier(current.shape[-2:], full) if scale < 1 else 0.0

    def _enter_step(self, stages: tuple[Stage, ...], group: list[Stage], step: int) -> None:
        """Stages of one size share a sampler call: only the kept share changes between them."""
        for stage in group:
            if stage.first <= step < stage.stop:
                self.state.stage_index, self.state.density = stages.index(stage), stage.density

    def _sample_pass(self, index: int, current, sigmas, mask, callback) -> torch.Tensor:
        entry = self.entry
        noise = entry.noise if current is entry.image else self._noise_for(index, current)
        shape = entry.shapes[0] if len(entry.shapes) > 1 else current.shape
        seed = None if entry.seed is None else stage_seed(entry.seed, index)
        return runs.sample_stage(
            self.report,
            self.state.scale,
            shape,
            sigmas,
            lambda: entry.sample(noise, current, entry.sampler, sigmas, mask, callback, seed),
        )

    def _noise_for(self, index: int, like: torch.Tensor) -> torch.Tensor:
        """Noise of a stage that is small or comes after one. Disabled noise stays off at the start only."""
        noise = self.entry.noise
        disabled = torch.count_nonzero(noise) == 0
        if index == 0 and disabled:
            return torch.zeros_like(like)
        if self.settings.stage_noise == "dct" and not disabled:
            return dct_truncate(noise, *like.shape[-2:])
        generator = torch.Generator().manual_seed(stage_seed(self.entry.seed or 0, index))
        return torch.randn(like.shape, generator=generator, dtype=noise.dtype)

    def _clean(self, found: list[torch.Tensor], samples, sigma, mask) -> torch.Tensor:
        """The predicted clean latent at the end of a pass, in the latent space of the graph."""
        if found:
            return self.patcher.model.process_latent_out(found[0].to(samples.device))
        # The sampler reported no step: one more evaluation, as an Euler step to zero.
        end = torch.cat([sigma, torch.zeros_like(sigma)])
        euler = comfy.samplers.sampler_object("euler")
        return self.entry.sample(torch.zeros_like(samples), samples, euler, end, mask, None, self.entry.seed)

    def _handed_over(self, clean: torch.Tensor) -> torch.Tensor:
        """The clean latent of a schedule that ends in a small stage, as the next sampler needs it: at full size, with
        the noise that a sampler leaves which stops at that sigma. The callback gets the prediction at full size too.
        """
        model, sampling = self.patcher.model, self.model_sampling
        clean = self._restore_masked(self._resized(clean, 1.0), self.entry.mask, 1.0)
        sigma = self.entry.sigmas[-1:].to(clean.device)
        x0 = model.process_latent_in(clean)
        noisy = sampling.noise_scaling(sigma, self.entry.noise.to(clean), x0)
        if self.entry.callback is not None:
            self.entry.callback(self.steps - 1, x0, noisy, self.steps)
        return model.process_latent_out(sampling.inverse_noise_scaling(sigma, noisy))

    def _say(self) -> None:
        stages = self.report.stages
        size = "×".join(map(str, stages[-1].latent_shape[-2:])) if stages else ""
        status.say(self.node_id, f"stage {len(stages)}, latent {size}; {self.report.line()}")


def _tensors(condition) -> list[torch.Tensor]:
    """A condition's tensors: none, one, or those of a list."""
    return [] if condition is None else [condition] if isinstance(condition, torch.Tensor) else list(condition)


def _resize_condition(cond: dict, size: tuple[int, int]) -> None:
    """Put copies of latent height and width `size` in the place of a condition's RESIZED_CONDITIONS."""
    for key, mode in RESIZED_CONDITIONS.items():
        if cond.get(key) is not None:
            resized = [resize(x, *size, mode) for x in _tensors(cond[key])]
            cond[key] = resized[0] if isinstance(cond[key], torch.Tensor) else resized
