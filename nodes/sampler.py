"""Progressive Resolution Sampler: the noisy steps on a smaller latent, the rest at full size, in one run.

A stage is one call of the guider on its slice of the schedule. Between stages the predicted clean latent is enlarged
and goes back in as the next stage's latent; ComfyUI itself noises it to the first sigma of that stage.
"""

import inspect
from dataclasses import replace

import comfy.model_management
import comfy.model_sampling
import comfy.nested_tensor
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io

from jenga.patch import FORWARD_KEY, Run, StageState
from jenga.presets import PRESETS, STAGES, Preset, Stage, StageRule, computed_steps, split, whole_schedule_boundary
from jenga.reuse import StepReuse
from jenga.sampler import (
    RESIZE_MODES,
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

# Conditions that ComfyUI does not resize with the latent: a smaller stage would get them at the wrong size.
FIXED_SIZE_CONDITIONS = (
    "vace_frames",
    "time_dim_concat",
    "reference_latents",
    "reference_latent",
    "context_latents",
    "control_video",
    "pose_video_latent",
    "face_video_pixels",
    "keyframe_idxs",
)


class JengaProgressiveSampler(io.ComfyNode):
    """In the place of SamplerCustomAdvanced; with one stage it is that node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JengaProgressiveSampler",
            display_name="Progressive Resolution Sampler",
            category="Jenga",
            description="Runs the early, noisy steps on a smaller latent. Takes the place of SamplerCustomAdvanced; "
            "with Jenga Attention on the model the preset also sets how much each stage keeps.",
            search_aliases=["jenga sampler", "progressive resolution", "multi-resolution", "two stage", "prores"],
            inputs=[
                io.Noise.Input("noise"),
                io.Guider.Input("guider"),
                io.Sampler.Input("sampler"),
                io.Sigmas.Input("sigmas"),
                io.Latent.Input("latent_image"),
                io.Combo.Input(
                    "preset",
                    options=[*PRESETS, "custom"],
                    default="turbo",
                    tooltip="base: full size throughout. turbo: half of the steps at 75 % size. flash: turbo that "
                    "keeps less. 3-stage: 50 %, 75 %, full. custom: the fields below.",
                ),
                io.Combo.Input(
                    "step_reuse",
                    options=["from preset", "off", "static"],
                    default="from preset",
                    tooltip="static: in the middle of the run every second or third step repeats the model's last "
                    "output. Every preset does; custom does not. Below 12 steps all are computed.",
                ),
                io.String.Input(
                    "scales",
                    default="0.75, 1.0",
                    advanced=True,
                    tooltip="custom: size of each stage. The last one is 1.0.",
                ),
                io.String.Input(
                    "switch_points",
                    default="0.5",
                    advanced=True,
                    tooltip="custom: where each stage but the last ends, as a fraction of the steps.",
                ),
                io.String.Input(
                    "shift_ratios",
                    default="1.0, 1.0",
                    advanced=True,
                    tooltip="custom: factor on the sigma shift of your schedule for each stage. One value is for all.",
                ),
                io.Combo.Input(
                    "upsample",
                    options=list(RESIZE_MODES),
                    default="bicubic",
                    advanced=True,
                    tooltip="How the latent is enlarged between stages.",
                ),
                io.Combo.Input(
                    "stage_noise",
                    options=["dct", "independent"],
                    default="dct",
                    advanced=True,
                    tooltip="dct: all stages share the low frequencies of one noise, so that the clip resembles the "
                    "full-size run of the same seed. independent: fresh noise for every stage.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="output"), io.Latent.Output(display_name="denoised_output")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        noise,
        guider,
        sampler,
        sigmas,
        latent_image,
        preset,
        step_reuse,
        scales,
        switch_points,
        shift_ratios,
        upsample,
        stage_noise,
    ) -> io.NodeOutput:
        custom = parse_stages(scales, switch_points, shift_ratios) if preset == "custom" else None
        reuse_steps = step_reuse == "static" or (step_reuse == "from preset" and custom is None)
        job = ProgressiveRun(guider, sampler, noise, sigmas, upsample, stage_noise, cls.hidden.unique_id)
        plan = job.plan(preset, custom)
        return io.NodeOutput(*job.run(latent_image, plan, reuse_steps))


def parse_stages(scales: str, switch_points: str, shift_ratios: str) -> list[StageRule]:
    """The custom fields. Raises ValueError that names the field and what it must hold."""

    def numbers(name: str, text: str, low: float, high: float) -> list[float]:
        try:
            values = [float(part) for part in text.split(",") if part.strip()]
        except ValueError:
            values = [float("nan")]
        if not all(low <= value <= high for value in values):
            raise ValueError(
                f"Progressive Resolution Sampler: {name} must hold numbers from {low} to {high}, separated by commas, "
                f"got {text!r}"
            )
        return values

    sizes = numbers("scales", scales, 0.1, 1.0)
    points = numbers("switch_points", switch_points, 0.0, 1.0)
    ratios = numbers("shift_ratios", shift_ratios, 0.05, 20.0)
    if not sizes or sizes[-1] != 1.0:
        raise ValueError(f"Progressive Resolution Sampler: scales must end with 1.0, got {scales!r}")
    if len(points) != len(sizes) - 1 or points != sorted(points):
        raise ValueError(
            f"Progressive Resolution Sampler: switch_points must hold {len(sizes) - 1} rising numbers, one fewer than "
            f"scales, got {switch_points!r}"
        )
    if len(ratios) == 1:
        ratios *= len(sizes)
    if len(ratios) != len(sizes):
        raise ValueError(
            f"Progressive Resolution Sampler: shift_ratios must hold 1 or {len(sizes)} numbers, got {shift_ratios!r}"
        )
    return [StageRule(*row, None) for row in zip(sizes, [*points, 1.0], ratios, strict=True)]


class ProgressiveRun:
    """One execution of the node."""

    def __init__(self, guider, sampler, noise, sigmas, upsample: str, stage_noise: str, node_id: str | None):
        self.guider, self.sampler, self.noise, self.sigmas = guider, sampler, noise, sigmas
        self.upsample, self.stage_noise, self.node_id = upsample, stage_noise, node_id
        self.patcher = guider.model_patcher
        self.model_sampling = self.patcher.get_model_object("model_sampling")
        self.steps = max(0, sigmas.shape[-1] - 1)
        self.state = StageState(Run())
        self.report = self.state.run.report

    def plan(self, name: str, custom: list[StageRule] | None) -> Preset:
        """Stages for this schedule. A part of one (two experts, denoise below 1) is cut where its sigmas say."""
        if not self.steps:
            return Preset((), ())
        family = preset_family(self.patcher)
        to_the_end = float(self.sigmas[-1]) == 0
        whole = to_the_end and float(self.sigmas[0]) >= 0.999 * float(self.model_sampling.sigma_max)

        def boundary(until: float) -> int:
            if whole:
                return whole_schedule_boundary(until, self.steps)
            step = boundary_by_sigma(self.sigmas, self.model_sampling.percent_to_sigma(until))
            return min(step, self.steps - to_the_end)  # the last step of all is one at full size

        stages = split(custom or STAGES[family][name], self.steps, boundary)
        return Preset(stages, computed_steps(self.steps, stages, family))

    def run(self, latent: dict, plan: Preset, reuse_steps: bool) -> tuple[dict, dict]:
        """The node's two outputs."""
        latent = {**latent, "samples": _fix_empty_latent(self.patcher, latent)}
        reuse = StepReuse(plan.computed) if reuse_steps else None
        runs.report_slot(self.patcher).begin(self.report)
        if not self.patcher.get_wrappers(WrappersMP.APPLY_MODEL, FORWARD_KEY):
            self.report.note("no Jenga Attention on the model: nothing is carved, text is not amplified")
        original = self.guider.model_options
        self.guider.model_options = create_model_options_clone(original)
        runs.install(self.state, self.guider.model_options, self._say, reuse)
        try:
            samples, denoised = self._sample(latent, plan.stages, reuse)
        finally:
            self.guider.model_options = original
            self.state.run.close()
            if reuse is not None:
                reuse.close()
            self._say()
        kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio")}
        samples = samples.to(comfy.model_management.intermediate_device())
        return {**kept, "samples": samples}, {**kept, "samples": samples if denoised is None else denoised}

    def _sample(self, latent: dict, stages: tuple[Stage, ...], reuse: StepReuse | None):
        """The stages one after the other -> samples, and the last prediction of the clean latent (None: no step)."""
        image, mask = latent["samples"], latent.get("noise_mask")
        noise = self.noise.generate_noise(latent)
        reason = self._full_size_reason(stages, image, noise)
        if reason:
            self.report.note(f"all steps at full size: {reason}")
            stages = tuple(replace(stage, scale=1.0, shift_ratio=1.0) for stage in stages)
        found: dict = {}
        show = latent_preview.prepare_callback(self.patcher, self.steps, found)
        current = image
        groups = passes(stages) or [[Stage(0, 0, 1.0, 1.0, None)]]
        for index, group in enumerate(groups):
            first, scale = group[0].first, group[0].scale
            current = current if scale == 1 and index == 0 else self._resized(current, image, scale)
            if index and scale == 1 and mask is not None:
                current = _restore_clean(current, image, mask)
            sigmas = self._sigmas_of(group)
            if reuse is not None:
                reuse.enter_stage(sigmas, first)

            def callback(step, x0, x, _, group=group, first=first):
                show(step + first, x0, x, self.steps)
                self._enter_step(stages, group, first + step + 1)

            self._enter_size(current, image, scale)
            self._enter_step(stages, group, first)
            samples = self._sample_pass(index, current, image, sigmas, noise, mask, callback)
            last = index + 1 == len(groups)
            if not last or scale < 1:
                current = self._clean(found, samples, sigmas[-1:], mask)
        if scale < 1:  # the schedule is a part that ends in a small stage: the next sampler gets the full size
            current = self._resized(current, image, 1.0)
            return self._noised(current, noise, sigmas[-1:]), current
        return samples, self._denoised(found, samples)

    def _full_size_reason(self, stages, image, noise) -> str:
        """Why all steps must run at full size on one schedule; empty where they need not."""
        smallest = min((stage.scale for stage in stages), default=1.0)
        if image.is_nested and len(passes(stages)) > 1:
            return "the latent holds video and audio"
        if smallest == 1:
            return ""
        conditions = {key for group in self.guider.original_conds.values() for cond in group for key in cond}
        fixed = [key for key in FIXED_SIZE_CONDITIONS if key in conditions]
        areas = [cond["area"] for group in self.guider.original_conds.values() for cond in group if "area" in cond]
        fixed += ["area"] if any(area[0] != "percentage" for area in areas) else []
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

    def _resized(self, x, image, scale: float):
        return resize(x, *stage_size(tuple(image.shape[-2:]), scale, self._patch_sides()), self.upsample)

    def _sigmas_of(self, group: list[Stage]) -> torch.Tensor:
        part = self.sigmas[group[0].first : group[-1].stop + 1]
        flow = isinstance(self.model_sampling, comfy.model_sampling.CONST)
        return shift_sigmas(part, group[0].shift_ratio, flow, float(self.model_sampling.sigma_max))

    def _enter_size(self, current, image, scale: float) -> None:
        self.state.scale = scale
        self.state.text_logit_bias = text_amplifier(current.shape[-2:], image.shape[-2:]) if scale < 1 else 0.0

    def _enter_step(self, stages: tuple[Stage, ...], group: list[Stage], step: int) -> None:
        """Stages of one size share a sampler call: only the kept share changes between them."""
        for stage in group:
            if stage.first <= step < stage.stop:
                self.state.stage_index, self.state.density = stages.index(stage), stage.density

    def _sample_pass(self, index: int, current, image, sigmas, noise, mask, callback):
        pass_noise = noise if current is image else self._noise_for(index, noise, current)
        return runs.sample_stage(
            self.report,
            self.state.scale,
            image.shape if current.is_nested else current.shape,
            sigmas,
            lambda: self.guider.sample(
                pass_noise,
                current,
                self.sampler,
                sigmas,
                denoise_mask=mask,
                callback=callback,
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=stage_seed(self.noise.seed, index),
            ),
        )

    def _noise_for(self, index: int, noise: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Noise of a stage that is small or comes after one. Disabled noise stays off at the start only."""
        disabled = torch.count_nonzero(noise) == 0
        if index == 0 and disabled:
            return torch.zeros_like(like)
        if self.stage_noise == "dct" and not disabled:
            return dct_truncate(noise, *like.shape[-2:])
        generator = torch.Generator().manual_seed(stage_seed(self.noise.seed, index))
        return torch.randn(like.shape, generator=generator, dtype=noise.dtype)

    def _clean(self, found: dict, samples, sigma, mask):
        """The predicted clean latent at the end of a pass, in the latent space of the graph."""
        if "x0" not in found:  # the sampler reported no step: one more evaluation, as an Euler step to zero
            zeros = torch.zeros_like(samples)
            end = torch.cat([sigma, torch.zeros_like(sigma)])
            euler = comfy.samplers.sampler_object("euler")
            return self.guider.sample(zeros, samples, euler, end, denoise_mask=mask, seed=self.noise.seed)
        return self.patcher.model.process_latent_out(found.pop("x0").to(samples.device))

    def _noised(self, clean, noise, sigma):
        """A clean latent as a sampler that stops at `sigma` would leave it."""
        model, sampling = self.patcher.model, self.model_sampling
        sigma = sigma.to(clean.device)
        noisy = sampling.noise_scaling(sigma, noise.to(clean), model.process_latent_in(clean))
        return model.process_latent_out(sampling.inverse_noise_scaling(sigma, noisy))

    def _denoised(self, found: dict, samples):
        x0 = found.get("x0")
        if x0 is None:
            return None
        if samples.is_nested and not x0.is_nested:
            shapes = [part.shape for part in samples.unbind()]
            x0 = comfy.nested_tensor.NestedTensor(comfy.utils.unpack_latents(x0, shapes))
        return self.patcher.model.process_latent_out(x0.cpu())

    def _say(self) -> None:
        stages = self.report.stages
        size = "×".join(map(str, stages[-1].latent_shape[-2:])) if stages else ""
        status.say(self.node_id, f"stage {len(stages)}, latent {size}; {self.report.line()}")


def _fix_empty_latent(patcher, latent: dict):
    """The latent with the channels and scale of the model, where it is empty. Its arguments grew with ComfyUI."""
    names = list(inspect.signature(comfy.sample.fix_empty_latent_channels).parameters)[2:]
    return comfy.sample.fix_empty_latent_channels(patcher, latent["samples"], *(latent.get(name) for name in names))


def _restore_clean(x: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the noise mask protects comes from the full-size latent, not from its small copy."""
    keep = comfy.sampler_helpers.prepare_mask(mask, image.shape, image.device).to(x)
    return x * keep + image.to(x) * (1 - keep)
