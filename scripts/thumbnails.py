"""Thumbnails for ComfyUI's template browser: square JPEGs beside the workflows, same name.

The demo's shows frames that its model made; the others are cards that draw what the workflow does over its steps.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import jenga

SIDE = 384  # pixels; the template browser shows them at 256 and less
QUALITY = 88
GAP = 0.012  # between two bars, of the width of all


@dataclass(frozen=True)
class Card:
    """What a drawn thumbnail says. preset, family, steps: as in jenga.preset, whose stages are drawn; kept: whether the
    preset's kept shares count, which Jenga Attention's quality replaces.
    """

    title: str
    line: str
    preset: str
    family: str
    steps: int
    kept: bool = True


def draw(card: Card, path: Path) -> None:
    """The card as a picture: a bar for each stage, as wide as its steps, as high as its latent, paler for less kept."""
    figure = Figure(figsize=(SIDE / 100, SIDE / 100), dpi=100, facecolor="#16181d")
    FigureCanvasAgg(figure)
    figure.text(0.07, 0.88, card.title, color="white", fontsize=17, fontweight="bold", va="center")
    figure.text(0.07, 0.78, card.line, color="#aab2c0", fontsize=9.5, va="center")
    axes = figure.add_axes((0.07, 0.13, 0.86, 0.55), facecolor="none")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=[], yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#aab2c0")
    axes.set_xlabel("steps", color="#aab2c0", fontsize=9, loc="left")
    for stage in jenga.preset(card.preset, card.family, card.steps).stages:
        start, width = stage.first / card.steps, (stage.stop - stage.first) / card.steps
        strength = 0.35 + 0.65 * stage.density**0.5 if card.kept else 0.7
        axes.bar(start, stage.scale, width - GAP, align="edge", color="#2f81f7", alpha=strength)
        label = f"{stage.scale:.0%} size" + (f"\n{stage.density:.0%} kept" if card.kept else "")
        middle = start + width / 2, stage.scale / 2
        axes.text(*middle, label, color="white", fontsize=9.5, ha="center", va="center")
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
