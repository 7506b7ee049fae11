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
    """What a model call says about its self-attention sequences: [context, video, context], where either may be empty.

    Context is all that is not video: text, reference frames, guides, poses, motion, audio. It is always kept.

    grid    the video tokens
    before  context tokens in front of the video; None: all of a sequence's context is in front of it
    text    the first text token and how many there are, where that is known; None: all of that context from there on
    least   the least context of a sequence that holds the video: a shorter one is another attention
    width   heads * head dim of such an attention, where one of other tokens could have its length; 0: any
    apart   the most context tokens whose queries the host attends in a call of their own; the video's queries have a
            call then whose keys are all tokens. 0: the queries of a call are those of all tokens
    bias    natural-log weight of the text tokens as keys
    dense   why such a sequence stays dense; empty where it need not
    """

    grid: TokenGrid
    before: int | None = 0
    text: tuple[int, int | None] | None = None
    least: int = 0
    width: int = 0
    apart: int = 0
    bias: float = 0.0
    dense: str = ""

    def splits(self, queries: int, keys: int) -> bool:
        """Whether a call of so many queries and keys is that of the video's queries alone."""
        return queries == self.grid.num_tokens and 0 < keys - queries <= self.apart

    def holds_video(self, tokens: int, width: int) -> bool:
        """Whether a sequence of so many tokens can be one over the video tokens."""
        return tokens - self.grid.num_tokens >= self.least and self.width in (0, width)

    def place(self, tokens: int) -> Placement | None:
        """Where the video lies in such a sequence; None where the context that should be in front does not fit."""
        context = tokens - self.grid.num_tokens
        before = context if self.before is None else self.before
        return Placement(before, self._text(tokens, before)) if before <= context else None

    def _text(self, tokens: int, before: int) -> tuple[int, int] | None:
        """(start, stop) of the text, if it is inside the context."""
        if self.text is None:
            return None
        start, count = self.text
        end = before if start < before else tokens  # of the context that it is in
        stop = end if count is None else start + count
        return (start, stop) if start < stop <= end and not before <= start < before + self.grid.num_tokens else None


def latent_grid(patch: tuple[int, int, int], latent_shape: tuple[int, ...]) -> TokenGrid:
    """Tokens of a latent [..., T, H, W] cut in patches; a ragged edge is padded to a whole patch."""
    return TokenGrid(*(math.ceil(size / side) for size, side in zip(latent_shape[-3:], patch, strict=True)))
