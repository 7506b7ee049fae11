"""What one model call is, what one layer is, and what one attention call is given. Made by a host, read by all else."""

from collections.abc import Hashable
from dataclasses import dataclass

import torch

from .layout import TokenLayout


@dataclass(frozen=True)
class ModelCall:
    """One call of the diffusion model in a run. Whatever is kept between steps is kept by its conditionings.

    conditionings  one for each equal part of the batch, no two alike. Each holds all that tells this part from the
                   other calls of its evaluation: the host's conditioning, the window of frames, the strengths of weight
                   hooks, and the pass: a second call of the same conditioning in one evaluation is another pass
    evaluation     number of the sampler's prediction in the run, from 0
    layout         None for a model whose tokens nobody has described: they are looked for at its first attention
    sigma          noise level, a tensor: to read it waits for its device
    steps          of the sampler call that this is part of; infinity where the host does not say
    """

    conditionings: tuple[Hashable, ...]
    evaluation: int
    layout: TokenLayout | None
    sigma: torch.Tensor
    steps: float


@dataclass(frozen=True)
class Block:
    """A transformer block as a host names it; type "" where the host names none and calls were counted instead.

    num_blocks: how many blocks of this type there are, 0 where the host does not say.
    """

    type: str
    index: int
    num_blocks: int = 0


@dataclass(frozen=True)
class Layer:
    """One self-attention over the video. block: its block's number in the model. occurrence: which one in the block.
    index: its own in the run, from 0, in the order in which layers came.
    """

    block: int
    occurrence: int
    index: int


@dataclass(frozen=True)
class AttentionInput:
    """q k v [B, H, S, D] in raster order. kv_mask bool [B, S]: False columns are never attended; None: all are."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    layout: TokenLayout
    video_start: int
    text_range: tuple[int, int] | None
    kv_mask: torch.Tensor | None
    softmax_scale: float | None

    def carve(self, carved, lists=None, residual=None, tail_bias=None):
        """carved: a CarvedAttention, called with all of this; lists and what goes with them as it takes them."""
        return carved(
            self.q,
            self.k,
            self.v,
            self.layout.grid,
            self.video_start,
            self.text_range,
            self.kv_mask,
            self.softmax_scale,
            lists,
            residual,
            tail_bias,
        )
