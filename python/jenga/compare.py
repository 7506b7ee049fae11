"""Two clips side by side: what differs, by how much, and pictures that let a person judge.

A clip is a float tensor [F, H, W, 3] in 0..1, ComfyUI's IMAGE. Frames are matched by index; the shorter clip ends the
comparison, and a clip of another size is resized to the first one's. Both are said in `Comparison.notes`.
Metrics come from scikit-image, plots from matplotlib; both are imported where they are used, since the
operators of this package need neither.
"""

from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

MODES = ("side by side", "wipe", "difference", "blink")
BLINK_FRAMES = 8  # frames that one side stays on screen
BORDER = 2  # pixels of the divider


@dataclass(frozen=True)
class Comparison:
    """Per-frame PSNR (dB, data range 1) and SSIM of two clips; notes say what was cut or resized."""

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
    """Bring two clips to one length and size by the rule of this module.

    Returns the clips [F, H, W, 3] and the notes. Raises ValueError for anything that is not a clip.
    """
    for name, clip in (("a", a), ("b", b)):
        if clip.dim() != 4 or clip.shape[-1] < 3 or clip.shape[0] == 0:
            raise ValueError(f"compare: {name} must be a clip [F, H, W, 3] with a frame, got shape {tuple(clip.shape)}")
    a, b = a[..., :3].float().cpu(), b[..., :3].float().cpu()
    notes = []
    if a.shape[0] != b.shape[0]:
        frames = min(a.shape[0], b.shape[0])
        notes.append(f"{a.shape[0]} and {b.shape[0]} frames: the first {frames} are compared")
        a, b = a[:frames], b[:frames]
    if a.shape[1:3] != b.shape[1:3]:
        notes.append(f"second clip resized from {b.shape[2]}×{b.shape[1]} to {a.shape[2]}×{a.shape[1]}")
        b = torch.nn.functional.interpolate(
            b.movedim(-1, 1), size=a.shape[1:3], mode="bicubic", antialias=True, align_corners=False
        ).movedim(1, -1)
    return a.clamp(0, 1), b.clamp(0, 1), notes


def compare(a: torch.Tensor, b: torch.Tensor) -> Comparison:
    """PSNR and SSIM of every frame. a, b: clips [F, H, W, 3] in 0..1. Equal frames have infinite PSNR."""
    from skimage.metrics import structural_similarity

    a, b, notes = match(a, b)
    psnr, ssim = [], []
    for x, y in zip(a.numpy(), b.numpy(), strict=True):
        error = float(np.mean((x.astype(np.float64) - y) ** 2))
        psnr.append(float("inf") if error == 0 else -10 * float(np.log10(error)))
        window = min(7, (min(x.shape[:2]) - 1) // 2 * 2 + 1)
        ssim.append(float(structural_similarity(x, y, data_range=1.0, channel_axis=-1, win_size=window)))
    return Comparison(psnr, ssim, notes)


def _label(clip: torch.Tensor, text: str, right: bool = False) -> torch.Tensor:
    """The clip with `text` burnt into its top left (or right) corner."""
    if not text:
        return clip
    height, width = clip.shape[1:3]
    font = ImageFont.load_default(size=max(10, height // 18))
    picture = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(picture)
    left, top, box_right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = max(3, height // 90)
    x = width - (box_right - left) - 3 * pad if right else pad
    draw.rectangle((x, pad, x + box_right - left + 2 * pad, bottom - top + 3 * pad), fill=(0, 0, 0, 160))
    draw.text((x + pad - left, 2 * pad - top), text, font=font, fill=(255, 255, 255, 255))
    layer = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)
    alpha = layer[..., 3:]
    return clip * (1 - alpha) + layer[..., :3] * alpha


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
    if mode == "difference":
        return _label(((a - b).abs() * gain).clamp(0, 1), f"|{label_a or 'a'} − {label_b or 'b'}| × {gain:g}")
    if mode == "side by side":
        divider = torch.ones(*a.shape[:2], BORDER, 3)
        return torch.cat([_label(a, label_a), divider, _label(b, label_b)], dim=2)
    frames, _, width = a.shape[:3]
    a, b = _label(a, label_a), _label(b, label_b, right=mode == "wipe")
    index = torch.arange(frames)
    if mode == "blink":
        return torch.where((index // BLINK_FRAMES % 2 == 0).view(-1, 1, 1, 1), a, b)
    # The divider goes from right to left and back once in the clip, so that each side is seen whole at some time.
    phase = (index / max(frames - 1, 1) * 2 - 1).abs()
    edge = (phase * width).round().view(-1, 1, 1, 1)
    column = torch.arange(width).view(1, 1, -1, 1)
    wiped = torch.where(column < edge, a, b)
    return torch.where((column - edge).abs() < BORDER, torch.ones(()), wiped)


def table(comparison: Comparison, label_a: str, label_b: str) -> str:
    """Markdown: mean, worst and best frame of each metric, and the notes."""
    rows = [f"| {label_b} against {label_a} | mean | worst frame | best frame |", "|---|---|---|---|"]
    for name, values, unit in (("PSNR", comparison.psnr, " dB"), ("SSIM", comparison.ssim, "")):
        digits = 2 if unit else 4
        cells = (f"{value:.{digits}f}{unit}" for value in (fmean(values), min(values), max(values)))
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows + [f"\n{note}" for note in comparison.notes])


def draw_metrics(axes, comparison: Comparison) -> None:
    """PSNR (left scale) and SSIM (right scale) over frames, into a matplotlib Axes."""
    frames = range(len(comparison.psnr))
    axes.plot(frames, comparison.psnr, color="tab:blue")
    axes.set_xlabel("frame")
    axes.set_ylabel("PSNR, dB", color="tab:blue")
    right = axes.twinx()
    right.plot(frames, comparison.ssim, color="tab:orange")
    right.set_ylabel("SSIM", color="tab:orange")
    right.set_ylim(min(0.5, *comparison.ssim), 1.0)
    axes.grid(alpha=0.3)


def plot(comparison: Comparison) -> torch.Tensor:
    """The two curves as a picture [1, H, W, 3] in 0..1."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    draw_metrics(figure.subplots(), comparison)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].astype(np.float32) / 255).unsqueeze(0)
