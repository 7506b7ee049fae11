"""Jenga A/B: the same noise sampled dense and with Jenga, both timed, and how far apart the results are."""

import math
import time
from dataclasses import asdict, dataclass
from statistics import median

import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy.ldm.modules import attention
from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS
from comfy_api.v0_0_2 import io

from jenga.report import view as report_view
from jenga.report.report import Report

from .host import runs, status
from .host.latents import fix_empty_latent
from .host.unpatch import OVERRIDE, is_patched, unpatched

DENSE, JENGA, NOISE_FLOOR = "dense", "jenga", "noise floor"
WARM_UP_STEPS = {DENSE: 1, JENGA: 3}  # with three steps every preset runs every size it has


class JengaAB(io.ComfyNode):
    """In the place of a KSampler: one queue runs it without and with the Jenga patches of its model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JengaAB",
            display_name="Jenga A/B",
            category="Jenga",
            description="Samples the same noise dense and with the Jenga patches of the model, one after the other, "
            "and says how much faster and how far apart they are. Takes the place of a KSampler.",
            search_aliases=["jenga benchmark", "ab test", "speed-up", "dense against sparse", "noise floor"],
            inputs=[
                io.Model.Input("model", tooltip="A model with Jenga or Jenga Attention on it."),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True),
                io.Int.Input("steps", default=20, min=1, max=10000),
                io.Float.Input("cfg", default=8.0, min=0.0, max=100.0, step=0.1, round=0.01),
                io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS),
                io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Latent.Input("latent_image"),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01),
                io.Int.Input(
                    "repeats",
                    default=1,
                    min=1,
                    max=100,
                    tooltip="Runs of each kind, in the order dense, jenga, jenga, dense, … Seconds are their median.",
                ),
                io.Boolean.Input(
                    "noise_floor",
                    default=False,
                    advanced=True,
                    tooltip="One more dense run, with another attention function of ComfyUI: how far apart two exact "
                    "runs are. It may be much slower than the first.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="dense"),
                io.Latent.Output(display_name="jenga"),
                io.String.Output(display_name="report"),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model,
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        positive,
        negative,
        latent_image,
        denoise,
        repeats,
        noise_floor,
    ) -> io.NodeOutput:
        if not is_patched(model):
            raise ValueError(
                "Jenga A/B: model must carry a Jenga patch, got one without: put Jenga or Jenga Attention before this "
                "node, and switch it on"
            )
        settings = SamplerSettings(seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise)
        result = ABTest(model, settings, cls.hidden.unique_id).run(repeats, noise_floor)
        status.say(cls.hidden.unique_id, result.line())
        text = result.text()
        kept = {key: value for key, value in latent_image.items() if not key.startswith("downscale_ratio")}
        latents = ({**kept, "samples": result.samples[name]} for name in (DENSE, JENGA))
        return io.NodeOutput(*latents, text, ui={"jenga_ab": [result.summary()], "text": [text]})


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
        """What the stock KSampler makes of a MODEL in so many steps; the noise is drawn anew, and so the same."""
        image = fix_empty_latent(model, self.latent)
        return comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(image, self.seed, self.latent.get("batch_index")),
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
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Part:
    """One sampler run of a comparison. name: DENSE, JENGA or NOISE_FLOOR; a warm-up is thrown away."""

    name: str
    steps: int
    warm_up: bool = False


def plan(steps: int, repeats: int, noise_floor: bool) -> list[Part]:
    """The runs, dense and jenga in turns. A change to the other one warms up: it loads, compiles and tunes."""
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
        self.compiled = TORCH_COMPILE_KWARGS in model.model_options

    def run(self, repeats: int, noise_floor: bool) -> "ABResult":
        parts = plan(self.settings.steps, repeats, noise_floor)
        other = other_attention()
        models = {DENSE: self.dense, JENGA: self.model, NOISE_FLOOR: with_attention(self.dense, other)}
        result = ABResult(self.settings.steps, self._attention_name(), other.__name__)
        bar, done, previous = comfy.utils.ProgressBar(sum(part.steps for part in parts)), 0, None
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
        name = attention.optimized_attention.__name__
        override = self.dense.model_options["transformer_options"].get(OVERRIDE)
        return name if override is None else f"{name} under another node's override"


def other_attention():
    """An exact attention function of ComfyUI that is not the one in use. Both need little memory."""
    choices = (attention.attention_pytorch, attention.attention_sub_quad)
    return next(choice for choice in choices if choice.__name__ != attention.optimized_attention.__name__)


def with_attention(model, function):
    """A clone of a MODEL with that attention function of ComfyUI, in the place of any override."""
    clone = model.clone()
    clone.model_options["transformer_options"][OVERRIDE] = lambda _, *args, **kwargs: function(*args, **kwargs)
    return clone


@dataclass(frozen=True)
class Distance:
    """Relative L2 error of a latent against another, in fp64; PSNR in dB with the other's range, inf between equals."""

    relative_l2: float
    psnr: float

    @classmethod
    def of(cls, samples, expected) -> "Distance":
        x, y = _values(samples), _values(expected)
        error, spread = (x - y).norm(), y.max() - y.min()
        return cls(float(error / y.norm()), float(20 * torch.log10(spread * math.sqrt(y.numel()) / error)))

    def summary(self) -> dict:
        """For JSON, which has no inf and no nan: None in their place."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}

    def cells(self) -> str:
        return f"{self.relative_l2:.3g} | {self.psnr:.1f}"


class ABResult:
    """What came out. dense_attention, floor_attention: names of the attention functions of those runs."""

    def __init__(self, steps: int, dense_attention: str, floor_attention: str):
        self.steps, self.dense_attention, self.floor_attention = steps, dense_attention, floor_attention
        self.order: list[str] = []
        self.seconds: dict[str, list[float]] = {DENSE: [], JENGA: []}
        self.samples: dict[str, object] = {}  # of the first run of each kind
        self.report = Report()
        self.floor_reason = ""  # why there is no noise floor though it was asked for

    def add(self, name: str, seconds: float, samples) -> None:
        self.samples.setdefault(name, samples)
        if name in self.seconds:
            self.order.append(name)
            self.seconds[name].append(seconds)

    @property
    def speed_up(self) -> float:
        return median(self.seconds[DENSE]) / median(self.seconds[JENGA])

    def distance(self, name: str) -> Distance | None:
        """From the dense latent; None for a run that was not made."""
        return Distance.of(self.samples[name], self.samples[DENSE]) if name in self.samples else None

    def summary(self) -> dict:
        """Everything as plain numbers, lists and strings, ready for JSON."""
        floor = self.distance(NOISE_FLOOR)
        return {
            "order": self.order,
            "seconds": self.seconds,
            "median_seconds": {name: median(seconds) for name, seconds in self.seconds.items()},
            "speed_up": self.speed_up,
            **self.distance(JENGA).summary(),
            "attention": self.dense_attention,
            "noise_floor": floor and {"attention": self.floor_attention, **floor.summary()},
            "jenga": self.report.summary(),
        }

    def line(self) -> str:
        """One line for the node."""
        dense, jenga = (median(self.seconds[name]) for name in (DENSE, JENGA))
        error = self.distance(JENGA).relative_l2
        return f"{self.speed_up:.2f}× as fast: {dense:.2f} s dense, {jenga:.2f} s with Jenga; relative L2 {error:.3g}"

    def text(self) -> str:
        """The summary as Markdown."""
        dense, jenga = (median(self.seconds[name]) for name in (DENSE, JENGA))
        floor = self.distance(NOISE_FLOOR)
        backends = ", ".join(f"{name}: {count}" for name, count in self.report.backends.items()) or "none seen"
        cells = floor.cells() if floor else f"{self.floor_reason or 'not asked for'} | –"
        in_order = {name: iter(seconds) for name, seconds in self.seconds.items()}
        lines = [
            "| run | attention | seconds | speed-up | relative L2 | PSNR, dB |",
            "|---|---|---|---|---|---|",
            f"| dense | {self.dense_attention} | {dense:.2f} | 1 | – | – |",
            f"| jenga | {backends} | {jenga:.2f} | {self.speed_up:.2f}× | {self.distance(JENGA).cells()} |",
            f"| noise floor | dense, {self.floor_attention} | – | – | {cells} |",
            "",
            "Seconds are medians after a warm-up. Latents are compared with the dense one, whose range is PSNR's.",
            f"{self.steps} steps; " + ", ".join(f"{name} {next(in_order[name]):.2f} s" for name in self.order) + ".",
            "",
            "The last Jenga run:",
            "",
            report_view.text(self.report.summary()),
        ]
        return "\n".join(lines)


def _values(samples) -> torch.Tensor:
    """All values of a latent in fp64; those of video with audio come in parts."""
    parts = samples.unbind() if samples.is_nested else [samples]
    return torch.cat([part.cpu().double().flatten() for part in parts])
