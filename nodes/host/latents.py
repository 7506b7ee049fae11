"""The parts of a latent: video alone, or video and audio, which ComfyUI packs as [B, 1, N] while it samples."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from jenga.sampling.resolution import resize

from . import private


@dataclass(frozen=True)
class LatentParts:
    """How a latent is made up. shapes: the video's, then the audio's where there is one. One part is not packed.

    Of all parts only the video has height and width that a stage changes. Noise and masks are made up like the latent.
    """

    shapes: tuple[torch.Size, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video."""
        return tuple(self.shapes[0][-2:])

    @property
    def packed(self) -> bool:
        return len(self.shapes) > 1

    @property
    def shape(self) -> torch.Size:
        """Of a latent that is made up so."""
        if not self.packed:
            return self.shapes[0]
        return torch.Size((self.shapes[0][0], 1, sum(shape[1:].numel() for shape in self.shapes)))

    def at(self, size: tuple[int, int]) -> "LatentParts":
        """These parts with a video of that height and width."""
        return LatentParts((torch.Size((*self.shapes[0][:-2], *size)), *self.shapes[1:]))

    def split(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The parts of a latent."""
        return private.unpack(x, self.shapes) if self.packed else [x]

    def joined(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """A latent of these parts, which may have other sizes."""
        return private.pack(parts) if self.packed else parts[0]

    def with_video(self, x: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """x with change(its video) in the place of its video."""
        video, *others = self.split(x)
        return self.joined([change(video), *others])

    def with_others(self, x: torch.Tensor, others: list[torch.Tensor]) -> torch.Tensor:
        """x with these parts behind its video."""
        return self.joined([self.split(x)[0], *others])

    def resized(self, x: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
        """x with its video at that height and width: x itself where it has them. mode: of `resize`."""
        return x if size == self.size else self.with_video(x, lambda video: resize(video, *size, mode))


def sampled(latent: dict, samples) -> dict:
    """A LATENT with other samples. What it said of the scale of an empty one is not true of them."""
    kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio")}
    return {**kept, "samples": samples}
