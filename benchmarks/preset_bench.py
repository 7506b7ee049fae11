"""Measuring one run of benchmarks.presets: seconds, model calls, work and the quality of decoded frames."""

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean, median

import torch

from benchmarks import frame_quality, st_lpips
from benchmarks.host import preset_runs
from benchmarks.host.demo_host import DemoHost
from benchmarks.host.preset_runs import Variant
from benchmarks.markdown import Document

WARM_UP_STEPS = {"cuda": 12, "cpu": 2}  # 12: the fewest at which every part takes part, so that its kernels are loaded
NONE = "–"
QUALITY = ("PSNR dB", "SSIM", "ST-LPIPS")
TIMED_PROMPTS = 3  # of a run that is only timed: prompts differ in their frames, hardly in their work


@dataclass(frozen=True)
class Measured:
    """Seconds: median over prompts. computed and reused: model calls of one run. psnr, ssim and lpips: one for each
    prompt, empty where nothing was decoded or its package is missing. kept: share, and cost: attention work relative to
    dense; None without carving.
    """

    seconds: float
    computed: float
    reused: float
    kept: float | None
    cost: float | None
    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    lpips: list[float] = field(default_factory=list)

    def quality(self) -> tuple[str, str, str]:
        """The cells of QUALITY."""
        mean = fmean(self.psnr)
        distance = f"{fmean(self.lpips):.4f}" if self.lpips else NONE
        return ("∞" if math.isinf(mean) else f"{mean:.2f}"), f"{fmean(self.ssim):.4f}", distance

    def times(self, seconds: float) -> tuple[str, str]:
        """Cells: seconds, and how much faster than `seconds`."""
        return f"{self.seconds:.3f}", f"{seconds / self.seconds:.2f}"

    def calls(self) -> tuple[str, str]:
        """Cells: model calls computed and reused."""
        return f"{self.computed:g}", f"{self.reused:g}"


class Bench:
    """One model, the document, and the dense runs of one number of steps."""

    def __init__(self, host: DemoHost, prompts: int, document: Document):
        self.host, self.prompts, self.document = host, prompts, document
        self.steps, self.dense, self._frames = 0, None, []
        self.spent = Counter()  # seconds of the benchmark itself, by what it did
        self._lpips = st_lpips.load(host.device)
        if self._lpips is None:
            document.note(st_lpips.MISSING)

    def begin(self, steps: int) -> None:
        """Dense runs of so many steps: what everything after is compared with."""
        self.steps, self._frames = steps, []
        latents, self.dense = self._run(preset_runs.dense(self.host), self.prompts)
        self._frames = [self.host.decode(latent) for latent in latents]

    def measure_time(self, name: str, variant: Variant) -> Measured:
        """Without quality, over fewer prompts."""
        _, measured = self._run(variant, min(self.prompts, TIMED_PROMPTS))
        self._note(name, variant)
        return measured

    def measure(self, name: str, variant: Variant) -> Measured:
        latents, measured = self._run(variant, self.prompts)
        self._note(name, variant)
        for latent, expected in zip(latents, self._frames, strict=True):
            frames, seconds, _ = self.host.timed(lambda latent=latent: self.host.decode(latent))
            self.spent["decoding"] += seconds
            begin = time.perf_counter()
            measured.psnr.append(frame_quality.psnr(frames, expected))
            measured.ssim.append(frame_quality.ssim(frames, expected))
            if self._lpips is not None:
                measured.lpips.append(self._lpips(frames, expected))
            self.spent["comparing"] += time.perf_counter() - begin
        return measured

    def _note(self, name: str, variant: Variant) -> None:
        """Of its last run: every fallback, and what carved attention ran as."""
        report = variant.report()
        if report is not None:
            for reason in report.fallbacks:
                self.document.note(f"{name}, {self.steps} steps: {reason}")
            carved = sorted(kind for kind in report.backends if kind != "dense")
            if carved:
                self.document.note(f"carved attention ran as {', '.join(carved)}")

    def _run(self, variant: Variant, prompts: int) -> tuple[list[torch.Tensor], Measured]:
        """So many prompts once, after a shorter run that is thrown away."""
        begin = time.perf_counter()
        variant.sample(0, min(self.steps, WARM_UP_STEPS[self.host.device.type]))
        latents, seconds, computed, kept, costs = [], [], [], [], []
        for prompt in range(prompts):
            latent, taken, calls = self.host.timed(lambda prompt=prompt: variant.sample(prompt, self.steps))
            latents.append(latent)
            seconds.append(taken)
            computed.append(calls)
            report = variant.report()
            share = None if report is None else report.summary()["kept_share"]
            if share is not None:
                kept.append(share)
                costs.append(preset_runs.attention_cost(report))
        self.spent["sampling"] += time.perf_counter() - begin
        count = fmean(computed)
        mean_kept, mean_cost = (fmean(values) if values else None for values in (kept, costs))
        return latents, Measured(median(seconds), count, self.steps - count, mean_kept, mean_cost)
