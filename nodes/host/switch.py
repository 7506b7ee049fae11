"""From one size of a run to the next, and out of a small one: by a clean prediction, or on the run's trajectory.

A sampler call is given a latent and a noise; ComfyUI mixes them at the first sigma of its schedule, and keeps to both
where a noise mask protects something. A switch says both of every call.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from jenga.sampling.presets import Stage
from jenga.sampling.resolution import dct_truncate, shift_sigmas, stage_seed
from jenga.sampling.trajectory import change_size, linear_scale, move_sigma, sigmas_at

from . import private
from .families import carries_parts
from .latents import LatentParts
from .sampler_entry import SamplerEntry
from .stage_settings import TRAJECTORY, UPSAMPLE, StageSettings


@dataclass(frozen=True)
class Call:
    """One sampler call. index: of the calls of its run. parts: its latent. mask: the noise mask at its size."""

    index: int
    parts: LatentParts
    sigmas: torch.Tensor
    mask: torch.Tensor | None


@dataclass(frozen=True)
class Result:
    """What a call made. samples: what the sampler returned, in the graph's latent space. predicted: the clean latent as
    it was last reported, in the model's space; None where the sampler reported nothing. stop: the step of the call's
    schedule that the samples are at.
    """

    call: Call
    samples: torch.Tensor
    predicted: torch.Tensor | None
    stop: int


class Switch:
    """What both ways share. stage_noise: dct or independent. note: takes what is done otherwise than the stages say, in
    words.
    """

    def __init__(self, entry: SamplerEntry, patcher, stage_noise: str, note: Callable[[str], None]):
        self.entry, self.model, self.stage_noise, self.note = entry, patcher.model, stage_noise, note
        self.sampling = patcher.get_model_object("model_sampling")
        self.flow = private.is_flow(self.sampling)

    def stages(self, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """The stages as this way runs them."""
        return stages

    def sigmas(self, first: int, stop: int, shift_ratio: float, size: tuple[int, int]) -> torch.Tensor:
        """The schedule of a call at that latent height and width: steps first .. stop - 1 of the run, and its end."""
        part = self.entry.sigmas[first : stop + 1]
        return shift_sigmas(part, shift_ratio, self.flow, float(self.sampling.sigma_max))

    def noise(self, call: Call) -> torch.Tensor:
        """Noise of a call, at its size: the run's own where it starts at full size. Disabled noise stays off at the
        start only.

        Audio keeps the run's own noise: to go on with other noise would take it off its path.
        """
        noise = self.entry.noise
        if call.index == 0 and call.parts.size == self.entry.parts.size:
            return noise
        disabled = torch.count_nonzero(noise) == 0
        if call.index == 0 and disabled:
            return noise.new_zeros(call.parts.shape)
        generator = torch.Generator().manual_seed(stage_seed(self.entry.seed or 0, call.index))
        fresh = partial(torch.randn, generator=generator, dtype=noise.dtype)
        if disabled:
            return fresh(call.parts.shape)
        dct = self.stage_noise == "dct"
        return self.entry.parts.with_video(
            noise, lambda video: dct_truncate(video, *call.parts.size) if dct else fresh(call.parts.shapes[0])
        )

    def clean(self, result: Result) -> torch.Tensor:
        """The predicted clean latent at the end of a call, in the graph's space."""
        if result.predicted is not None:
            return self.model.process_latent_out(result.predicted.to(result.samples.device))
        # The sampler reported no step, so there is no prediction: one more evaluation makes it, an Euler step to zero.
        call, samples = result.call, result.samples
        end = torch.cat([call.sigmas[-1:], torch.zeros_like(call.sigmas[-1:])])
        euler, noise = private.euler_sampler(), torch.zeros_like(samples)
        return self.entry.sample(call.parts, noise, samples, euler, end, call.mask, None, self.entry.seed)

    def others(self, result: Result, clean: torch.Tensor, sigma: torch.Tensor) -> list[torch.Tensor]:
        """The parts beside the video as the sampler left them, moved to that sigma, in the model's space. clean: of the
        result.

        Along the line to what the sampler sees as their clean ones: its own Euler step. That is right for parts with a
        noise schedule of their own too, since their model scales what it predicts to the sampler's sigma.
        """
        before = result.call
        at, to = float(before.sigmas[result.stop]), float(sigma)
        _, *left = before.parts.split(self.left(result))
        _, *targets = before.parts.split(self.model.process_latent_in(clean))
        return [move_sigma(other, at, target.to(other), to) for other, target in zip(left, targets, strict=True)]

    def left(self, result: Result) -> torch.Tensor:
        """The latent that the sampler left, in the model's space."""
        samples = result.samples
        # ComfyUI has divided the samples by what latents are multiplied by at the last sigma of the schedule.
        return self.mixed(result.call.sigmas[-1], torch.zeros_like(samples), self.model.process_latent_in(samples))

    def mixed(self, sigma: torch.Tensor, noise: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """What ComfyUI makes of noise and a latent in the model's space, at that sigma."""
        return self.sampling.noise_scaling(sigma.reshape(1).to(noise), noise, latent)

    def gain(self, sigma: torch.Tensor) -> float:
        """What ComfyUI multiplies noise by at that sigma; 0 where a model starts from its latent alone."""
        return float(self.mixed(sigma, torch.ones(1), torch.zeros(1)))

    def in_model(self, latent: torch.Tensor) -> torch.Tensor:
        """A latent of the graph in the model's space; as in ComfyUI, an empty one stays empty."""
        return self.model.process_latent_in(latent) if torch.any(latent) else latent

    def given(self, size: tuple[int, int], mode: str) -> torch.Tensor:
        """The latent that came in, at that height and width, in the graph's space."""
        return self.entry.parts.resized(self.entry.image, size, mode)

    def show(self, step: int, predicted: torch.Tensor, x: torch.Tensor) -> None:
        """To the callback, at the end of a run that ends in a small stage: what is handed over, at full size."""
        self.entry.show(self.entry.parts, step - 1, predicted, x, max(0, self.entry.sigmas.shape[-1] - 1))


class PredictClean(Switch):
    """The predicted clean latent is enlarged, and ComfyUI noises it to the first sigma of the next call.

    Parts beside the video with a noise schedule of their own cannot be noised anew: they go on as they were sampled, at
    the sigma that they have, so that no stage shifts it. It is their noise that is changed for that, and not their
    latent, which a noise mask mixes in.
    """

    def __init__(self, entry: SamplerEntry, patcher, stage_noise: str, note: Callable[[str], None], mode: str):
        """mode: of `resize`."""
        super().__init__(entry, patcher, stage_noise, note)
        self.mode, self.carries = mode, entry.parts.packed and carries_parts(patcher)

    def stages(self, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if not self.carries or len({stage.shift_ratio for stage in stages}) < 2:
            return stages
        self.note("no shift by stage: the audio goes on at the sigma that it has")
        return tuple(replace(stage, shift_ratio=stages[0].shift_ratio) for stage in stages)

    def start(self, call: Call, before: Result | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent and noise of a call, in the graph's space. before: what the call before it made."""
        noise = self.noise(call)
        if before is None:
            return self.given(call.parts.size, self.mode), noise
        clean = self.clean(before)
        latent = self._enlarged(before, clean, call.parts.size, call.mask)
        if not self.carries:
            return latent, noise
        sigma, noise = call.sigmas[0], noise.to(before.samples)
        latent = call.parts.with_others(latent, self.entry.parts.split(self.entry.image.to(latent))[1:])
        without = call.parts.split(self.mixed(sigma, torch.zeros_like(noise), self.in_model(latent).to(noise)))[1:]
        moved = zip(self.others(before, clean, sigma), without, strict=True)
        return latent, call.parts.with_others(noise, [(x - mixed) / self.gain(sigma) for x, mixed in moved])

    def hand_over(self, result: Result, step: int) -> torch.Tensor:
        """What a run returns that ends in a small stage before `step`: full size, with the noise of the run's own
        schedule there, for the next sampler.
        """
        model, sampling = self.model, self.sampling
        clean = self.clean(result)
        latent = self._enlarged(result, clean, self.entry.parts.size, self.entry.mask)
        x0 = model.process_latent_in(latent)
        sigma = self.entry.sigmas[step : step + 1].to(latent.device)
        noisy = sampling.noise_scaling(sigma, self.entry.noise.to(latent), x0)
        if self.carries:
            noisy = self.entry.parts.with_others(noisy, self.others(result, clean, sigma))
        self.show(step, x0, noisy)
        return model.process_latent_out(sampling.inverse_noise_scaling(self.entry.sigmas[-1:].to(noisy), noisy))

    def _enlarged(self, result: Result, clean: torch.Tensor, size: tuple[int, int], mask: torch.Tensor | None):
        """The clean latent at another size; what the noise mask protects comes from the latent that came in."""
        latent = result.call.parts.resized(clean, size, self.mode)
        return latent if mask is None else restored(latent, self.given(size, self.mode), mask)


class KeepTrajectory(Switch):
    """The noisy latent itself goes on (jenga.sampling.trajectory). Every size follows one schedule, by its own sigmas.

    Latent and noise of a call are those of a full-size run, but that the noise is changed so that what ComfyUI mixes of
    them is the latent that goes on. Where a noise mask protects something nothing is changed.
    """

    def stages(self, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        ratios = [stage.shift_ratio for stage in stages]
        if len(set(ratios)) > 1:
            self.note(f"one trajectory has one schedule: the sigma shift times {ratios[-1]:.3g} holds for all stages")
        return tuple(replace(stage, shift_ratio=ratios[-1]) for stage in stages)

    def sigmas(self, first: int, stop: int, shift_ratio: float, size: tuple[int, int]) -> torch.Tensor:
        full = super().sigmas(first, stop, shift_ratio, size)
        return sigmas_at(full, linear_scale(size, self.entry.parts.size), self.flow)

    def start(self, call: Call, before: Result | None) -> tuple[torch.Tensor, torch.Tensor]:
        """As PredictClean.start."""
        latent, noise, sigma = self.given(call.parts.size, "dct"), self.noise(call), call.sigmas[0]
        if before is None:
            return latent, noise
        noise = noise.to(before.samples)
        if self._is_noise_alone(before):
            return latent, noise
        off = self._off(self._continued(before, call.parts, sigma, noise), sigma, noise, latent, call.mask)
        return latent, noise + off / self.gain(sigma)

    def hand_over(self, result: Result, step: int) -> torch.Tensor:
        """As PredictClean.hand_over. The last prediction is shown and changes nothing."""
        entry, samples, small = self.entry, result.samples, result.call
        latent, noise = entry.image.to(samples), entry.noise.to(samples)
        sigma = sigmas_at(small.sigmas[result.stop], linear_scale(entry.parts.size, small.parts.size), self.flow)
        x = self.mixed(sigma, noise, self.in_model(latent))
        if not self._is_noise_alone(result):
            x = x + self._off(self._continued(result, entry.parts, sigma, noise), sigma, noise, latent, entry.mask)
        if result.predicted is not None:
            predicted = small.parts.resized(result.predicted.to(x), entry.parts.size, "dct")
            shown = predicted if entry.mask is None else restored(predicted, self.in_model(latent), entry.mask)
            self.show(step, shown, x)
        return self.model.process_latent_out(self.sampling.inverse_noise_scaling(entry.sigmas[-1:].to(x), x))

    def _continued(self, result: Result, parts: LatentParts, sigma: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """What the sampler left, at the size of `parts` and at its sigma, in the model's space."""
        before = result.call
        video = before.parts.split(self.left(result))[0]
        filling = parts.split(self.mixed(sigma, noise, torch.zeros_like(noise)))[0]
        video = change_size(video, float(before.sigmas[result.stop]), filling, float(sigma))
        return parts.joined([video, *(self.others(result, self.clean(result), sigma) if parts.packed else [])])

    def _off(self, x, sigma: torch.Tensor, noise, latent, mask: torch.Tensor | None) -> torch.Tensor:
        """How far x is from what ComfyUI would mix of noise and latent; 0 where the noise mask protects the latent."""
        off = x - self.mixed(sigma, noise, self.in_model(latent.to(x)))
        return off if mask is None else off * mask.to(off)

    def _is_noise_alone(self, result: Result) -> bool:
        """Whether the schedule of a call ends where a latent is noise alone: it has not gone anywhere, and ComfyUI has
        divided its samples by 0.
        """
        return self.flow and float(result.call.sigmas[-1]) == 1


def restored(x: torch.Tensor, given: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """x, but what the noise mask protects as it was given."""
    keep = mask.to(x)
    return x * keep + given.to(x) * (1 - keep)


def switch(settings: StageSettings, entry: SamplerEntry, patcher, note: Callable[[str], None]) -> Switch:
    """The way that these settings mean for a MODEL. note: takes what is done otherwise, in words."""
    way = settings.switch
    if way == TRAJECTORY:
        keeps = KeepTrajectory(entry, patcher, settings.stage_noise, note)
        if keeps.gain(torch.tensor(0.5)):
            return keeps
        note("the model starts from its latent and not from noise: stages are predicted clean and enlarged")
        way = UPSAMPLE
    return PredictClean(entry, patcher, settings.stage_noise, note, way)
