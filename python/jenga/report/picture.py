"""What several pictures need: text burnt into frames, and a matplotlib figure as an image.

An image or clip is a float tensor [F, H, W, 3] in 0..1, ComfyUI's IMAGE.
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


def burn_in(clip: torch.Tensor, text: str, right: bool = False) -> torch.Tensor:
    """The clip with `text` in its top left (or right) corner; the clip itself where the text is empty."""
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
