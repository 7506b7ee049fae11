"""What several pictures need: text burnt into frames, and a matplotlib figure as an image.

An image or clip is a float tensor [F, H, W, 3] in 0..1.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont


def new_figure(width: float, height: float):
    """A matplotlib Figure of that many inches that needs no display. Raises ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def figure_image(figure) -> torch.Tensor:
    """What `new_figure` made, drawn: [1, H, W, 3]."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.astype(np.float32) / 255).unsqueeze(0)


class Label:
    """A line of text in the top left (or right) corner of frames of one size; an empty text changes nothing."""

    def __init__(self, text: str, height: int, width: int, right: bool = False):
        self._box = self._alpha = self._light = None
        if text:
            self._draw(text, height, width, right)

    def on(self, frames: torch.Tensor) -> torch.Tensor:
        """Burn it into frames [..., H, W, 3], in place; they are handed back."""
        if self._box is not None:
            corner = frames[..., self._box[0], self._box[1], :]
            corner.mul_(1 - self._alpha).add_(self._light)
        return frames

    def _draw(self, text: str, height: int, width: int, right: bool) -> None:
        font = ImageFont.load_default(size=max(10, height // 18))
        picture = Image.new("RGBA", (width, height))
        draw = ImageDraw.Draw(picture)
        left, top, box_right, bottom = draw.textbbox((0, 0), text, font=font)
        pad = max(3, height // 90)
        x = width - (box_right - left) - 3 * pad if right else pad
        corners = (x, pad, x + box_right - left + 2 * pad, bottom - top + 3 * pad)
        draw.rectangle(corners, fill=(0, 0, 0, 160))
        draw.text((x + pad - left, 2 * pad - top), text, font=font, fill=(255, 255, 255, 255))
        first_column, first_row, last_column, last_row = picture.getbbox()
        self._box = slice(first_row, last_row), slice(first_column, last_column)
        layer = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)[self._box]
        self._alpha, self._light = layer[..., 3:], layer[..., :3] * layer[..., 3:]
