"""What a run tells while it lasts. Nothing is decided from it: a run whose listener forgets all is the same run."""

from contextlib import AbstractContextManager, nullcontext

import torch

from .copy_streams import Traffic


class Listener:
    """Every method does nothing. `jenga.report.report.Report` writes down what it hears."""

    def stage(self, scale: float, latent_shape: tuple[int, ...], steps: int) -> AbstractContextManager:
        """One stretch of the run at one latent size."""
        return nullcontext()

    def evaluation(self, device: torch.device) -> AbstractContextManager:
        """One prediction of the sampler."""
        return nullcontext()

    def other_device(self, device: torch.device) -> None:
        """Heads of this run are computed on that device too."""

    def model_call(self, reused: bool) -> None:
        """One model call, computed or reused."""

    def attention(self, layer_index: int, kept_share, kind: str, watch=None) -> None:
        """One self-attention call over video tokens; a dense one keeps 1.0."""

    def keep_blocks(self, layer_index: int, lists, grid, config, num_heads: int | None = None) -> None:
        """The blocks that a carved call kept, of its first heads where it has more (num_heads) than the lists."""

    def fallback(self, reason: str) -> None:
        """A call ran dense, or on a slower backend, though carving was asked for."""

    def choice(self, reason: str) -> None:
        """A call ran dense because the settings say so."""

    def note(self, text: str) -> None:
        """Something that is true of the whole run."""

    def streamed(self, device: torch.device, traffic: Traffic) -> None:
        """What anchors of one device moved to host memory and back. That part of the run is over."""

    def close(self) -> None:
        """The run is over."""
