"""Thumbnails for ComfyUI's template browser: square JPEGs beside the workflows, same name.

The demo's shows frames that its model made; the others are cards that draw what the workflow does over its steps.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

SIDE = 384  # pixels; the template browser shows them at 256 and less
QUALITY = 88


@dataclass(frozen=True)
class Phase:
    """Consecutive steps that run alike. share: of all steps; scale: of height and width; kept: share of key blocks."""

    share: float
    scale: float
    kept: float


@dataclass(frozen=True)
class Card:
    """What a drawn thumbnail says. phases: in the order of the steps, their shares adding up to 1."""

    title: str
    line: str
    phases: tuple[Phase, ...]


def draw(card: Card, path: Path) -> None:
    """The card as a picture: a bar for each phase, as wide as its steps, as high as its latent, paler for less kept."""
    figure = Figure(figsize=(SIDE / 100, SIDE / 100), dpi=100, facecolor="#16181d")
    FigureCanvasAgg(figure)
    figure.text(0.07, 0.88, card.title, color="white", fontsize=17, fontweight="bold", va="center")
    figure.text(0.07, 0.78, card.line, color="#aab2c0", fontsize=9.5, va="center")
    axes = figure.add_axes((0.07, 0.13, 0.86, 0.55), facecolor="none")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=[], yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#aab2c0")
    axes.set_xlabel("steps", color="#aab2c0", fontsize=9, loc="left")
    start = 0.0
    for phase in card.phases:
        axes.bar(
            start, phase.scale, phase.share - 0.012, align="edge", color="#2f81f7", alpha=0.35 + 0.65 * phase.kept**0.5
        )
        axes.text(
            start + phase.share / 2,
            phase.scale / 2,
            f"{phase.scale:.0%} size\n{phase.kept:.0%} kept",
            color="white",
            fontsize=9.5,
            ha="center",
            va="center",
        )
        start += phase.share
    figure.savefig(path, pil_kwargs={"quality": QUALITY})


def two_frames(clip: np.ndarray, path: Path) -> None:
    """The middle frame of a side-by-side clip [F, H, W, 3], uint8: its left half over its right half, both cropped."""
    frame = Image.fromarray(clip[len(clip) // 2])
    picture = Image.new("RGB", (SIDE, SIDE))
    for row in (0, 1):
        half = frame.crop((row * frame.width // 2, 0, (row + 1) * frame.width // 2, frame.height))
        half = half.resize((SIDE, SIDE * half.height // half.width))
        picture.paste(half.crop((0, 0, SIDE, SIDE // 2)), (0, row * SIDE // 2))
    picture.save(path, quality=QUALITY)
