"""What an anchor leaves behind for the steps after it: the residual of every token, and the block lists, both packed.

residual = dense output - carved output, [B, S, H, D]: in 4 or 8 bits with one scale per token and head (the kernel adds
it while it writes its output), or as bfloat16. Lists become a bitset: one bit per key block of every query block, so
their size does not depend on how much is kept (HunyuanVideo 720p: 5 MB a layer, beside 180 MB of 4-bit residual). What
dropped tail cells count as goes along, one number a head and cell.
Source: ours, in the line of DiTFastAttn's residual sharing.
"""

from dataclasses import dataclass, replace

import torch

from .config import Q_BLOCK_SIZE
from .operands import BlockLists, Residual


@dataclass(frozen=True)
class AnchorState:
    """All that one layer keeps of its last anchor, for a batch of any size.

    blocks: uint8 [B, H, nq, ceil((nkv + 1) / 8)], bit i % 8 of byte i / 8: key block i is kept. max_kv: the longest
    list has at most so many blocks. tail_bias: of the anchor's CarvedResult.
    """

    residual: Residual
    blocks: torch.Tensor
    num_kv_blocks: int
    max_kv: int
    tail_bias: torch.Tensor | None = None

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """codes, blocks and, where there are such, scale and tail_bias."""
        codes, scale = self.residual
        return (codes, self.blocks, *(x for x in (scale, self.tail_bias) if x is not None))

    def with_tensors(self, tensors: tuple[torch.Tensor, ...]) -> "AnchorState":
        """The same state in other tensors: moved, copied, cut or joined along the batch."""
        codes, blocks, *others = tensors
        scale = None if self.residual.scale is None else others.pop(0)
        tail_bias = None if self.tail_bias is None else others.pop(0)
        return AnchorState(Residual(codes, scale), blocks, self.num_kv_blocks, self.max_kv, tail_bias)

    def lists(self) -> BlockLists:
        return unpack_lists(self.blocks, self.num_kv_blocks, self.max_kv)

    def parts(self, count: int) -> list["AnchorState"]:
        """One for each equal part of the batch, views of this one's tensors."""
        pieces = zip(*(x.chunk(count) for x in self.tensors), strict=True)
        return [self.with_tensors(piece) for piece in pieces]


def joined(states: list[AnchorState], tensors: tuple[torch.Tensor, ...]) -> AnchorState:
    """States as one, whose tensors are theirs joined along the batch."""
    return replace(states[0].with_tensors(tensors), max_kv=max(state.max_kv for state in states))


def make_residual(dense: torch.Tensor, carved: torch.Tensor, bits: int, pack_residual) -> Residual:
    """dense, carved [B, H, S, D]; bits 4, 8 or 16; pack_residual: that operator of a backend."""
    if bits < 16:
        return pack_residual(dense.to(carved.dtype), carved, bits)
    return Residual((dense.float() - carved.float()).transpose(1, 2).to(torch.bfloat16).contiguous(), None)


def pack_lists(lists: BlockLists, num_kv_blocks: int) -> torch.Tensor:
    """Lists as a bitset: see AnchorState.blocks. The one block too many takes the -1 entries and is cleared."""
    listed = torch.where(lists.index >= 0, lists.index, num_kv_blocks).long()
    width = (num_kv_blocks + 8) // 8 * 8
    kept = torch.zeros(*listed.shape[:3], width, dtype=torch.uint8, device=listed.device).scatter_(3, listed, 1)
    kept[..., num_kv_blocks] = 0
    return (kept.unflatten(3, (-1, 8)) << _bits(kept.device)).sum(4, dtype=torch.uint8)


def unpack_lists(blocks: torch.Tensor, num_kv_blocks: int, max_kv: int) -> BlockLists:
    """The lists that `pack_lists` packed: entry j is the first block at which j + 1 are kept. No host sync."""
    kept = ((blocks[..., None] >> _bits(blocks.device)) & 1).flatten(3)[..., :num_kv_blocks]
    number = kept.cumsum(3, dtype=torch.int32)
    wanted = torch.arange(1, max_kv + 1, dtype=torch.int32, device=blocks.device)
    index = torch.searchsorted(number, wanted.expand(*number.shape[:3], -1).contiguous(), out_int32=True)
    return BlockLists(torch.where(index < num_kv_blocks, index, -1), number[..., -1].contiguous())


def kept_share_of(lists: BlockLists, num_video: int, kv_block: int) -> torch.Tensor:
    """fp32 scalar on the device: see CarvedResult.kept_share. Ragged last blocks count with the tokens they have.

    The plain torch of the operator kept_share, for backends that have none. Few operations: every call asks for it, and
    on small ones their launches show.
    """
    index, count = lists
    batch, heads, num_q_blocks = count.shape
    num_kv_blocks = -(-num_video // kv_block)
    keys_lacking = num_kv_blocks * kv_block - num_video
    rows_lacking = num_q_blocks * Q_BLOCK_SIZE - num_video
    blocks = count.float()
    if keys_lacking:
        has_last = index.amax(-1) == num_kv_blocks - 1
        blocks = torch.where(has_last, blocks - keys_lacking / kv_block, blocks)
    whole = blocks.sum()
    if rows_lacking:
        whole = whole.sub(blocks[..., -1].sum(), alpha=rows_lacking / Q_BLOCK_SIZE)
    return whole * (Q_BLOCK_SIZE * kv_block / (batch * heads * num_video**2))


def num_bytes(
    tokens: int, heads: int, head_dim: int, num_q_blocks: int, num_kv_blocks: int, num_tail_cells: int, bits: int
) -> int:
    """Memory of one layer's AnchorState for one sequence of the batch. num_tail_cells: of tail_bias; 0 without it."""
    residual = tokens * heads * (head_dim * bits // 8 + (4 if bits < 16 else 0))
    return residual + heads * (num_q_blocks * ((num_kv_blocks + 8) // 8) + 4 * num_tail_cells)


def _bits(device: torch.device) -> torch.Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
