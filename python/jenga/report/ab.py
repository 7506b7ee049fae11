"""What a comparison of dense and Jenga runs found: seconds in order, distance of the latents, and a noise floor."""

import math
from dataclasses import asdict, dataclass
from statistics import median

import torch

from . import view
from .report import Report

DENSE, JENGA, NOISE_FLOOR = "dense", "jenga", "noise floor"


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
            view.text(self.report.summary()),
        ]
        return "\n".join(lines)


def _values(samples) -> torch.Tensor:
    """All values of a latent in fp64; those of video with audio come in parts."""
    parts = samples.unbind() if samples.is_nested else [samples]
    return torch.cat([part.cpu().double().flatten() for part in parts])
