"""Attention carving and progressive resolution for video diffusion transformers."""

from .carving.attention import CarvedAttention, CarvedResult, carved_attention
from .carving.config import AnchorConfig, JengaConfig, TokenGrid
from .carving.dispatch import backends

__version__ = "0.1.0"

__all__ = [
    "STAGES",
    "AnchorConfig",
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
        from .sampling import presets

        return getattr(presets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
