"""Shift-tolerant LPIPS of two clips (Ghildyal and Liu, ECCV 2022): their distance in a trained network's features.

The package stlpips_pytorch brings its weights with it. It is for who measures, nothing here requires it: it is 64 MB,
and the files of its own that it took over from Adobe are CC BY-NC-SA.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

import torch

MISSING = "ST-LPIPS is not measured: `pip install --no-deps stlpips_pytorch` (it needs torch and torchvision)"
# What the package imports for printing and debugging alone, by name and the one thing taken from it.
UNUSED = {"torchsummary": "summary", "IPython": "embed"}
BATCH = 8  # frames: its first layer has 64 channels at the full size of a frame


class StLpips:
    """The trained metric on a device: 0 for equal clips, larger is farther."""

    def __init__(self, device: torch.device):
        with _stand_ins():
            from stlpips_pytorch.stlpips import LPIPS
        self._metric = LPIPS(net="alex", variant="shift_tolerant", verbose=False).to(device).requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, a: torch.Tensor, b: torch.Tensor) -> float:
        """Mean over frames of two clips [F, H, W, 3] in 0..1."""
        pairs = zip(*(clip.movedim(-1, 1).float().split(BATCH) for clip in (a, b)), strict=True)
        return float(torch.cat([self._metric(x, y, normalize=True).flatten() for x, y in pairs]).mean())


def load(device: torch.device) -> StLpips | None:
    """None where the package is not installed."""
    return StLpips(device) if importlib.util.find_spec("stlpips_pytorch") else None


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Empty modules in the place of those of UNUSED that are not installed, while the package is imported."""
    missing = [name for name in UNUSED if importlib.util.find_spec(name) is None]
    for name in missing:
        sys.modules[name] = ModuleType(name)
        setattr(sys.modules[name], UNUSED[name], None)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
