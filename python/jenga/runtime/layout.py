"""Where the video tokens lie in the sequence of a self-attention call."""

import math
from dataclasses import dataclass

from ..carving.config import TokenGrid


@dataclass(frozen=True)
class Placement:
    """One sequence: its first video token, and the (start, stop) of its text tokens, None where it has none."""

    video_start: int
    text_range: tuple[int, int] | None


@dataclass(frozen=True)
class TokenLayout:
    """What a model call says about its self-attention sequences.

    grid: the video tokens. text_first: the sequence is [text, video]; otherwise it is the video alone. num_text: the
    least number of text tokens of a call that holds the video too.
    """

    grid: TokenGrid
    text_first: bool = False
    num_text: int = 0

    def holds_video(self, tokens: int) -> bool:
        """Whether a sequence of so many tokens can be one over the video tokens."""
        return tokens - self.grid.num_tokens >= self.num_text

    def place(self, tokens: int) -> Placement | None:
        """Where the video lies in such a sequence; None where tokens beside it have no known place."""
        before = tokens - self.grid.num_tokens
        if before and not self.text_first:
            return None
        return Placement(before, (0, before) if before else None)


def latent_grid(patch: tuple[int, int, int], latent_shape: tuple[int, ...]) -> TokenGrid:
    """Tokens of a latent [..., T, H, W] cut in patches; a ragged edge is padded to a whole patch."""
    return TokenGrid(*(math.ceil(size / side) for size, side in zip(latent_shape[-3:], patch, strict=True)))
