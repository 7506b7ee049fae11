"""Attention carving and progressive resolution for video diffusion transformers."""

from .attention import CarvedAttention, CarvedResult, backends, carved_attention
from .config import JengaConfig, TokenGrid

__version__ = "0.1.0"

__all__ = [
    "STAGES",
    "CarvedAttention",
    "CarvedResult",
    "JengaConfig",
    "TokenGrid",
    "backends",
    "carved_attention",
    "preset",
]


def __getattr__(name: str):
    """The schedules are read when they are asked for: attention alone does not need them."""
    if name in ("STAGES", "preset"):
        from . import presets

        return getattr(presets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
