"""What the carving operators take and return. B batch, H heads, S tokens, D head dim; C context, N video tokens.

A tensor brings its dtype and strides; what is quantised brings its scale beside it, as `Residual` does.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class ScoreCells(NamedTuple):
    """How select_blocks finds the blocks of the cells it is given: tokens in all, sizes of blocks, cells to a block."""

    num_video: int
    q_block_size: int
    kv_block_size: int
    q_cells: int  # 1, 2, 4 or 8
    k_cells: int


class CarvedLayout(NamedTuple):
    """The order of a sequence and the sizes of what its video is cut into, in tokens."""

    token_index: Tensor  # int32 [S]: raster row of every carved row, the context first
    num_context: int  # C
    q_block_size: int = 128  # query rows that share one list
    kv_block_size: int = 64  # keys that are kept or dropped together
    tail_block_size: int = 64  # keys that one mean stands for where they are dropped; 0: dropped keys leave nothing
    q_cells: int = 8  # parts of a block whose means are compared; 0: none, where nothing is to be selected
    k_cells: int = 8

    @property
    def q_cell_size(self) -> int:
        return self.q_block_size // self.q_cells if self.q_cells else 0

    @property
    def k_cell_size(self) -> int:
        return self.kv_block_size // self.k_cells if self.k_cells else 0

    def cells(self, num_video: int) -> ScoreCells:
        return ScoreCells(num_video, self.q_block_size, self.kv_block_size, self.q_cells, self.k_cells)


class EightBitKeys(NamedTuple):
    """What int8 codes of keys stand for: center + H (scale * codes), H rotates (`quantise.py`)."""

    scale: Tensor  # fp32 [B, H, ceil((P + N) / 64)], one for 64 rows; 0 where none is a token
    tail_scale: Tensor  # fp32 [B, H, ceil(nc / 64)], one for 64 means
    center: Tensor  # fp32 [B, H, D]


class EightBitValues(NamedTuple):
    """What e4m3 codes of values stand for: center + scale * codes (`quantise.py`).

    Codes are rows, [B, H, P + N, D] and [B, H, nc, D], as the reference has them, or blocks of 64 rows,
    [B, H, ceil((P + N) / 64), D, 64] and [B, H, ceil(nc / 64), D, 64], as CUDA kernels have them (`quantise.in_rows`).
    """

    scale: Tensor  # fp32 [B, H, D]
    center: Tensor  # fp32 [B, H, D]


class PreparedBlocks(NamedTuple):
    """Keys and values in carved layout and every mean of them: what prepare_blocks returns, what attention is given.

    P = C rounded up to 128; nqc, nkc, nc: query cells, key cells, tail cells (0 with tail_block_size 0).
    """

    k_carved: Tensor  # [B, H, P + N, D]
    v_carved: Tensor  # [B, H, P + N, D]
    q_means: Tensor  # [B, H, nqc, D]
    k_means: Tensor  # [B, H, nkc, D]
    k_tail: Tensor  # [B, H, nc, D]
    v_tail: Tensor  # [B, H, nc, D]
    layout: CarvedLayout
    context_bias: Tensor | None  # fp32 [B, P]: natural-log bias of context columns, -inf = never attended; None: 0
    keys: EightBitKeys | None = None  # k_carved and k_tail are 8-bit codes
    values: EightBitValues | None = None  # v_carved and v_tail are 8-bit codes
    tail_bias: Tensor | None = (
        None  # fp32 [B, H, nc]: natural log of the keys that a tail cell counts as; None: log n_c
    )

    def filled_context_bias(self) -> Tensor:
        """context_bias with its zeros, fp32 [B, P], where it is None."""
        if self.context_bias is not None:
            return self.context_bias
        num_context = self.layout.num_context
        padded = self.k_carved.shape[2] - (self.layout.token_index.shape[0] - num_context)
        is_context = torch.arange(padded, device=self.k_carved.device) < num_context
        return torch.where(is_context, 0.0, -torch.inf).expand(self.k_carved.shape[0], -1)

    def tail(self) -> tuple[Tensor | None, Tensor | None]:
        """Keys and values of the tail cells, None where dropped keys leave nothing. A method, since torch 2.10 cannot
        compile a property of a named tuple.
        """
        return (self.k_tail, self.v_tail) if self.layout.tail_block_size else (None, None)


class BlockLists(NamedTuple):
    """The key blocks that every (head, query block) keeps, as select_blocks returns them."""

    index: Tensor  # int32 [B, H, nq, max_kv], ascending, -1 past the count
    count: Tensor  # int32 [B, H, nq]


class Residual(NamedTuple):
    """What is added to the output.

    codes: a float dtype or int8 [B, S, H, D], or uint8 [B, S, H, D / 2] with two 4-bit codes a byte. scale: fp32
    [B, S, H], None with a float dtype.
    """

    codes: Tensor
    scale: Tensor | None
