"""Less than was asked for: told, or an error where the configuration is strict."""

from ..carving.config import JengaConfig
from .run import Run
from .settings import CarvingSettings


def fall_back(run: Run, settings: CarvingSettings, reason: str) -> None:
    """Tells the run's listener; raises RuntimeError with strict."""
    meet(reason, settings.config)
    run.listener.fallback(reason)


def meet(reason: str, config: JengaConfig) -> None:
    """Raises RuntimeError for any fallback with strict."""
    if config.strict:
        raise RuntimeError(f"carving: strict must not meet a fallback, got {reason}")
