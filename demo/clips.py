"""Frames in and out of files: PNG frames as ComfyUI's SaveImage writes them, MP4 by PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image


def read_frames(paths: list[Path]) -> torch.Tensor:
    """PNG files in order -> clip [F, H, W, 3], float 0..1."""
    frames = [np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255 for path in paths]
    return torch.from_numpy(np.stack(frames))


def write_video(clip: torch.Tensor, path: Path, frames_per_second: int) -> None:
    """Clip [F, H, W, 3] in 0..1 -> H.264 MP4. An odd width or height loses its last column or row (4:2:0)."""
    height, width = (size // 2 * 2 for size in clip.shape[1:3])
    pixels = (clip[:, :height, :width].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(frames_per_second), options={"crf": "16"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
