"""What a run did: seconds, model calls, kept share per layer and evaluation, backends, and every fallback's reason.

An *evaluation* is one prediction of the sampler (Heun makes two a step); it may take several *model calls*, one for
each group of conditionings that fits in memory. Kept shares stay on their device until they are read.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field

import torch

DENSE = "dense"


@dataclass
class StageRecord:
    """One stretch of the run at one latent size."""

    scale: float
    latent_shape: tuple[int, ...]
    steps: int
    seconds: float = 0.0


@dataclass
class Evaluation:
    """One prediction: its stage, seconds, model calls, and the kept shares by layer."""

    stage_index: int
    seconds: float = 0.0
    computed: int = 0
    reused: int = 0
    kept: list[tuple[int, torch.Tensor | float]] = field(default_factory=list)


class Report:
    """Filled while a run lasts, read afterwards. Threads of several devices may write at the same time."""

    def __init__(self):
        self.stages: list[StageRecord] = []
        self.evaluations: list[Evaluation] = []
        self.backends: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()  # dense, or a slower backend, though carving was asked for
        self.choices: Counter[str] = Counter()  # dense because the settings say so
        self.notes: list[str] = []
        self.model_calls_planned = 0
        self._lock = threading.Lock()

    def begin_evaluation(self) -> Evaluation:
        self.evaluations.append(Evaluation(max(0, len(self.stages) - 1)))
        return self.evaluations[-1]

    def model_call(self, reused: bool) -> None:
        with self._lock:
            if self.evaluations:
                evaluation = self.evaluations[-1]
                evaluation.reused += reused
                evaluation.computed += not reused

    def attention(self, layer_index: int, kept_share: torch.Tensor | float, backend: str) -> None:
        """One self-attention call over video tokens; a dense one keeps 1.0."""
        with self._lock:
            self.backends[backend] += 1
            if self.evaluations:
                self.evaluations[-1].kept.append((layer_index, kept_share))

    def fallback(self, reason: str) -> None:
        with self._lock:
            self.fallbacks[reason] += 1

    def choice(self, reason: str) -> None:
        with self._lock:
            self.choices[reason] += 1

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def kept_share_map(self) -> list[list[float | None]]:
        """Rows are layers, columns evaluations; None where a layer did not run (its evaluation was reused)."""
        columns = []
        for evaluation in self.evaluations:
            column: dict[int, list[float]] = {}
            for layer, share in evaluation.kept:
                column.setdefault(layer, []).append(float(share))
            evaluation.kept = [(layer, share) for layer, shares in column.items() for share in shares]
            columns.append({layer: sum(shares) / len(shares) for layer, shares in column.items()})
        layers = 1 + max((layer for column in columns for layer in column), default=-1)
        return [[column.get(layer) for column in columns] for layer in range(layers)]

    def summary(self) -> dict:
        """Everything as plain numbers, lists and strings, ready for JSON."""
        shares = self.kept_share_map()
        kept = [float(share) for evaluation in self.evaluations for _, share in evaluation.kept]
        return {
            "seconds": sum(stage.seconds for stage in self.stages),
            "seconds_per_step": [evaluation.seconds for evaluation in self.evaluations],
            "stages": [
                {
                    "scale": stage.scale,
                    "latent_shape": list(stage.latent_shape),
                    "steps": stage.steps,
                    "seconds": stage.seconds,
                }
                for stage in self.stages
            ],
            "model_calls_computed": sum(evaluation.computed for evaluation in self.evaluations),
            "model_calls_reused": sum(evaluation.reused for evaluation in self.evaluations),
            "kept_share": sum(kept) / len(kept) if kept else None,
            "kept_share_map": shares,
            "backends": dict(self.backends),
            "fallbacks": dict(self.fallbacks),
            "dense_by_choice": dict(self.choices),
            "notes": list(self.notes),
        }

    def line(self) -> str:
        """One line for the node: what has run so far. Reads nothing from a GPU."""
        computed = sum(evaluation.computed for evaluation in self.evaluations)
        reused = sum(evaluation.reused for evaluation in self.evaluations)
        parts = [f"{computed} model calls" + (f", {reused} reused" if reused else "")]
        carved = sum(count for backend, count in self.backends.items() if backend != DENSE)
        total = sum(self.backends.values())
        if total:
            names = ", ".join(backend for backend in self.backends if backend != DENSE) or "nothing"
            parts.append(f"{carved}/{total} attention calls carved ({names})")
        parts += [f"fallback: {reason} ({count}×)" for reason, count in self.fallbacks.items()]
        return "; ".join(parts + self.notes)

    def text(self) -> str:
        """The summary as Markdown."""
        if not self.evaluations:
            return "\n".join(["No run yet.", *(f"- {note}" for note in self.notes)])
        summary = self.summary()
        kept = "–" if summary["kept_share"] is None else f"{summary['kept_share']:.1%}"
        evaluations = len(self.evaluations)
        lines = [
            "| figure | value |",
            "|---|---|",
            f"| seconds | {summary['seconds']:.2f} |",
            f"| seconds per evaluation | {summary['seconds'] / evaluations:.3f} ({evaluations}) |",
            f"| model calls computed / reused | {summary['model_calls_computed']} / {summary['model_calls_reused']} |",
            f"| kept share of video keys | {kept} |",
            f"| attention calls | {', '.join(f'{n}: {c}' for n, c in self.backends.items()) or 'none seen'} |",
            "",
            "| stage | scale | latent | steps | seconds |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {index} | {stage.scale:g} | {'×'.join(map(str, stage.latent_shape[2:]))} | {stage.steps} "
            f"| {stage.seconds:.2f} |"
            for index, stage in enumerate(self.stages)
        ]
        details = [f"- fallback: {reason} ({count}×)" for reason, count in self.fallbacks.items()]
        details += [f"- dense by choice: {reason} ({count}×)" for reason, count in self.choices.items()]
        details += [f"- {note}" for note in self.notes]
        return "\n".join(lines + ([""] + details if details else []))


def draw_kept_share(shares: list[list[float | None]], scale: int = 12) -> tuple[torch.Tensor, str]:
    """The layer x evaluation map as an image float [1, H, W, 3] in 0..1, and why it is plain ("" where it is not).

    With matplotlib: axes and a colour bar. Without: grey cells of `scale` pixels, layer 0 at the bottom, nothing
    where nothing ran.
    """
    if not shares:
        return torch.zeros(1, 64, 64, 3), "no carved attention was recorded"
    try:
        return _draw_with_matplotlib(shares), ""
    except ImportError:
        grid = torch.tensor([[1.0 if share is None else share for share in row] for row in shares])
        grid = grid.flip(0).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
        return grid[None, :, :, None].repeat(1, 1, 1, 3), "matplotlib is not installed: the map has no axes"


def _draw_with_matplotlib(shares: list[list[float | None]]) -> torch.Tensor:
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(
        np.array(shares, dtype=float) * 100, aspect="auto", origin="lower", vmin=0, interpolation="nearest"
    )
    axes.set_xlabel("evaluation")
    axes.set_ylabel("layer")
    axes.set_title("video keys kept, % (white: reused)")
    figure.colorbar(image, ax=axes)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return torch.from_numpy(pixels).float().div_(255)[None]
