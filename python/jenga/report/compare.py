"""Two clips side by side: what differs, by how much, and pictures that let a person judge.

A clip is a float tensor [F, H, W, 3] in 0..1. Frames are matched by number; the shorter clip ends the
comparison, and `Comparison.notes` names both lengths. Clips of different size are refused: what resizing does would be
measured as an error of the clip. Metrics come from scikit-image, plots from matplotlib; both are imported where they
are used, since the operators of this package need neither. Frames are worked on one by one, so that memory holds the
clips that come in, the one that goes out, and a few frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isinf
from statistics import fmean

import numpy as np
import torch

from .picture import Label, figure_image, new_figure

MODES = ("side by side", "wipe", "difference", "blink")
BLINK_FRAMES = 8  # frames that one side stays on screen
BORDER = 2  # pixels of the divider
SMALLEST_SIDE = 3  # of a frame: the least window of SSIM


@dataclass(frozen=True)
class Comparison:
    """Per-frame PSNR (dB, data range 1) and SSIM of two clips; notes say what was left out."""

    psnr: list[float]
    ssim: list[float]
    notes: list[str] = field(default_factory=list)

    @property
    def mean_psnr(self) -> float:
        return fmean(self.psnr)

    @property
    def mean_ssim(self) -> float:
        return fmean(self.ssim)


def match(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """The common length of two clips, as views, and the notes.

    Raises ValueError for anything that is not a clip [F, H, W, 3] and for clips of different size.
    """
    for name, clip in (("a", a), ("b", b)):
        if clip.dim() != 4 or clip.shape[-1] < 3 or clip.shape[0] == 0 or min(clip.shape[1:3]) < SMALLEST_SIDE:
            raise ValueError(
                f"compare: {name} must be a clip [F, H, W, 3] with a frame and sides of at least {SMALLEST_SIDE}, "
                f"got shape {tuple(clip.shape)}"
            )
    if a.shape[1:3] != b.shape[1:3]:
        sizes = [f"{clip.shape[2]}×{clip.shape[1]}" for clip in (a, b)]
        raise ValueError(
            f"compare: b must have the size of a, {sizes[0]}, got {sizes[1]}; bring one to the other's size first, "
            "for example with the node Upscale Image"
        )
    lengths = len(a), len(b)
    common = min(lengths)
    notes = (
        []
        if lengths == (common, common)
        else [f"{lengths[0]} and {lengths[1]} frames: the first {common} are compared"]
    )
    return a[:common, ..., :3], b[:common, ..., :3], notes


def _pairs(a: torch.Tensor, b: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Copies of frame after frame of both clips: [H, W, 3] in 0..1, fp32 on the CPU."""
    for pair in zip(a, b, strict=True):
        x, y = (frame.float().cpu().clamp(0, 1) for frame in pair)
        yield x, y


def compare(a: torch.Tensor, b: torch.Tensor) -> Comparison:
    """PSNR and SSIM of every frame. a, b: clips [F, H, W, 3] in 0..1. Equal frames have infinite PSNR."""
    from skimage.metrics import structural_similarity

    a, b, notes = match(a, b)
    psnr, ssim = [], []
    for x, y in ((x.numpy(), y.numpy()) for x, y in _pairs(a, b)):
        error = float(np.mean((x.astype(np.float64) - y) ** 2))
        psnr.append(float("inf") if error == 0 else -10 * float(np.log10(error)))
        window = min(7, (min(x.shape[:2]) - 1) // 2 * 2 + 1)
        ssim.append(float(structural_similarity(x, y, data_range=1.0, channel_axis=-1, win_size=window)))
    return Comparison(psnr, ssim, notes)


def compose(
    a: torch.Tensor,
    b: torch.Tensor,
    mode: str = "side by side",
    label_a: str = "",
    label_b: str = "",
    gain: float = 4.0,
) -> torch.Tensor:
    """One clip that shows two. mode: one of MODES; gain: factor on the absolute difference.

    Returns [F, H, W', 3]; W' is 2 W + the divider for "side by side", else W. Raises ValueError for another mode.
    """
    if mode not in MODES:
        raise ValueError(f"compare: mode must be one of {', '.join(MODES)}, got {mode!r}")
    a, b, _ = match(a, b)
    frames, height, width = a.shape[:3]
    first, second = Label(label_a, height, width), Label(label_b, height, width, right=mode == "wipe")
    difference = Label(f"|{label_a or 'a'} - {label_b or 'b'}| x {gain:g}", height, width)
    out = torch.empty(frames, height, 2 * width + BORDER if mode == "side by side" else width, 3)
    for index, (x, y) in enumerate(_pairs(a, b)):
        if mode == "difference":
            out[index] = difference.on(((x - y).abs() * gain).clamp(0, 1))
            continue
        x, y = first.on(x), second.on(y)
        if mode == "side by side":
            out[index] = torch.cat([x, torch.ones(height, BORDER, 3), y], dim=1)
        elif mode == "blink":
            out[index] = x if index // BLINK_FRAMES % 2 == 0 else y
        else:
            out[index] = _wiped(x, y, index / max(frames - 1, 1))
    return out


def _wiped(x: torch.Tensor, y: torch.Tensor, time: float) -> torch.Tensor:
    """x left of a divider and y right of it. time: 0 .. 1; in that time the divider goes from right to left and back,
    so that each side is seen whole at some time.
    """
    width = x.shape[1]
    edge = round(abs(2 * time - 1) * width)
    column = torch.arange(width).view(1, -1, 1)
    wiped = torch.where(column < edge, x, y)
    return torch.where((column - edge).abs() < BORDER, torch.ones(()), wiped)


def table(comparison: Comparison, label_a: str, label_b: str) -> str:
    """Markdown: mean, worst and best frame of each metric over so many frames, and the notes."""
    frames = len(comparison.psnr)
    title = f"{label_b} against {label_a}, {frames} frame{'s' if frames > 1 else ''}"
    rows = [f"| {title} | mean | worst frame | best frame |", "|---|---|---|---|"]
    for name, values, unit in (("PSNR", comparison.psnr, " dB"), ("SSIM", comparison.ssim, "")):
        digits = 2 if unit else 4
        cells = (f"{value:.{digits}f}{unit}" for value in (fmean(values), min(values), max(values)))
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows + [f"\n{note}" for note in comparison.notes])


def draw_metrics(axes, comparison: Comparison) -> None:
    """PSNR (left scale) and SSIM (right scale) over frames, into a matplotlib Axes. Infinite PSNR has no mark."""
    style = {"marker": ".", "markersize": 4}  # a clip of one frame has no line
    axes.plot(comparison.psnr, color="tab:blue", **style)
    axes.set_xlabel("frame")
    axes.set_ylabel("PSNR, dB", color="tab:blue")
    axes.xaxis.get_major_locator().set_params(integer=True)
    equal = sum(map(isinf, comparison.psnr))
    if equal:
        axes.set_title(f"{equal} of {len(comparison.psnr)} frames are equal: infinite PSNR, not drawn", fontsize=10)
    right = axes.twinx()
    right.plot(comparison.ssim, color="tab:orange", **style)
    right.set_ylabel("SSIM", color="tab:orange")
    right.set_ylim(min(0.5, *comparison.ssim), 1.01)
    axes.grid(alpha=0.3)


def plot(comparison: Comparison) -> torch.Tensor:
    """The two curves as a picture [1, H, W, 3] in 0..1."""
    figure = new_figure(8, 3.6)
    draw_metrics(figure.subplots(), comparison)
    return figure_image(figure)
