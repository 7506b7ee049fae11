"""The runs of *Jenga A/B*: one sampler on the same noise, dense and with Jenga in turns, each timed."""

import time
from dataclasses import dataclass

import torch

from jenga.report.ab import DENSE, JENGA, NOISE_FLOOR, ABResult

from . import private, private_options, runs, status
from .unpatch import unpatched

WARM_UP_STEPS = {DENSE: 1, JENGA: 3}  # with three steps every preset runs every size it has


@dataclass(frozen=True)
class SamplerSettings:
    """The inputs of the stock KSampler but its model."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    positive: list
    negative: list
    latent: dict
    denoise: float

    def sample(self, model, steps: int, callback):
        """What the stock KSampler makes of a MODEL in so many steps, with noise drawn from the same seed."""
        image = private.fix_empty_latent(model, self.latent)
        return private.sample(
            model,
            private.noise_for(image, self.seed, self.latent.get("batch_index")),
            steps,
            self.cfg,
            self.sampler_name,
            self.scheduler,
            self.positive,
            self.negative,
            image,
            denoise=self.denoise,
            noise_mask=self.latent.get("noise_mask"),
            callback=callback,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Part:
    """One sampler run of a comparison. name: DENSE, JENGA or NOISE_FLOOR; a warm-up is thrown away."""

    name: str
    steps: int
    warm_up: bool = False


def plan(steps: int, repeats: int, noise_floor: bool) -> list[Part]:
    """The runs, dense and Jenga in turns. After a change from one to the other a warm-up loads, compiles and tunes."""
    parts: list[Part] = []
    for repeat in range(repeats):
        for name in (DENSE, JENGA) if repeat % 2 == 0 else (JENGA, DENSE):
            if not parts or parts[-1].name != name:
                parts.append(Part(name, min(WARM_UP_STEPS[name], steps), warm_up=True))
            parts.append(Part(name, steps))
    return parts + [Part(NOISE_FLOOR, steps)] * noise_floor


class ABTest:
    """Runs the parts of a plan, one after the other, under one progress bar.

    Previews are not made: they would be timed as well.
    """

    def __init__(self, model, settings: SamplerSettings, node_id: str | None):
        self.model, self.settings, self.node_id = model, settings, node_id
        self.dense = unpatched(model)
        self.compiled = private.is_compiled(model.model_options)

    def run(self, repeats: int, noise_floor: bool) -> ABResult:
        parts = plan(self.settings.steps, repeats, noise_floor)
        other = private.other_attention()
        models = {DENSE: self.dense, JENGA: self.model, NOISE_FLOOR: with_attention(self.dense, other)}
        result = ABResult(self.settings.steps, self._attention_name(), other.__name__)
        bar, done, previous = private.progress_bar(sum(part.steps for part in parts)), 0, None
        try:
            for number, part in enumerate(parts, 1):
                status.say(self.node_id, f"run {number} of {len(parts)}: {part.name}{', warm-up' * part.warm_up}")
                if part.name != previous:
                    self._forget_compiled()

                def callback(step, x0, x, total, part=part, done=done):
                    bar.update_absolute(done + (step + 1) * part.steps // total)

                try:
                    seconds, samples = self._timed(models[part.name], part.steps, callback)
                except torch.OutOfMemoryError:
                    if part.name != NOISE_FLOOR:
                        raise
                    result.floor_reason = "out of memory"
                else:
                    if not part.warm_up:
                        result.add(part.name, seconds, samples)
                        result.report = runs.report_of(self.model)[0]  # of the last Jenga run
                done, previous = done + part.steps, part.name
                bar.update_absolute(done)
        finally:
            self._forget_compiled()
        return result

    def _timed(self, model, steps: int, callback):
        """Seconds of a sampler run, and its samples."""
        self._synchronize()
        start = time.perf_counter()
        samples = self.settings.sample(model, steps, callback)
        self._synchronize()
        return time.perf_counter() - start, samples

    def _synchronize(self) -> None:
        if self.model.load_device.type == "cuda":
            torch.cuda.synchronize(self.model.load_device)

    def _forget_compiled(self) -> None:
        """ComfyUI compiles without guards on transformer_options: code compiled dense would run in Jenga's place."""
        if self.compiled:
            torch.compiler.reset()

    def _attention_name(self) -> str:
        name = private.attention_in_use().__name__
        override = self.dense.model_options["transformer_options"].get(private_options.OVERRIDE)
        return name if override is None else f"{name} under another node's override"


def with_attention(model, function):
    """A clone of a MODEL with that attention function of ComfyUI, in the place of any override."""
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    options[private_options.OVERRIDE] = lambda _, *args, **kwargs: function(*args, **kwargs)
    return clone
