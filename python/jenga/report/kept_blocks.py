"""Which key blocks a layer kept, remembered for the report: of one sequence, as a bitset, within a bound."""

from dataclasses import dataclass, replace

import torch

from ..carving.config import JengaConfig, TokenGrid
from ..carving.operands import BlockLists
from ..carving.residuals import pack_lists, unpack_lists

# Of one layer; so many of its first heads are kept as fit. 60 MiB for 60 layers; at HunyuanVideo 720p that is 5 of 24
# heads, at Wan 14B 720p 12 of 40, below some 30,000 tokens all.
BYTES_PER_LAYER = 1 << 20


@dataclass(frozen=True)
class KeptBlocks:
    """One layer's lists at its last carved evaluation, for the first sequence of the batch.

    blocks: uint8 [1, heads, nq, ceil((nkv + 1) / 8)], as jenga.carving.residuals packs them.
    num_heads: of the layer; the first ones are there.
    """

    evaluation: int
    grid: TokenGrid
    curve: str
    kv_block_size: int
    num_heads: int
    blocks: torch.Tensor

    @classmethod
    def of(
        cls,
        lists: BlockLists,
        evaluation: int,
        grid: TokenGrid,
        config: JengaConfig,
        num_heads: int | None = None,
    ) -> "KeptBlocks":
        """num_heads: None where the lists are of all."""
        num_kv_blocks = config.num_kv_blocks(grid.num_tokens)
        _, listed, num_q_blocks, _ = lists.index.shape
        heads = max(1, min(listed, BYTES_PER_LAYER // (num_q_blocks * ((num_kv_blocks + 8) // 8))))
        blocks = pack_lists(BlockLists(lists.index[:1, :heads], lists.count[:1, :heads]), num_kv_blocks)
        return cls(evaluation, grid, config.curve, config.kv_block_size, num_heads or listed, blocks)

    @property
    def num_kv_blocks(self) -> int:
        return -(-self.grid.num_tokens // self.kv_block_size)

    def row(self, head: int, query_block: int) -> tuple[torch.Tensor, int]:
        """kv_block_index int32 [nkv] (-1 past the count) and kv_block_count of one head and query block.

        Raises ValueError for a head or query block that is not there.
        """
        _, heads, num_q_blocks, _ = self.blocks.shape
        if not 0 <= head < heads:
            kept = "" if heads == self.num_heads else f" (of {self.num_heads}, the first {heads} are kept)"
            raise ValueError(f"kept blocks: head must be from 0 to {heads - 1}{kept}, got {head}")
        if not 0 <= query_block < num_q_blocks:
            raise ValueError(f"kept blocks: query_block must be from 0 to {num_q_blocks - 1}, got {query_block}")
        one = self.blocks[:, head : head + 1, query_block : query_block + 1].cpu()
        index, count = unpack_lists(one, self.num_kv_blocks, self.num_kv_blocks)
        return index.flatten(), int(count)

    def to_host(self) -> "KeptBlocks":
        return replace(self, blocks=self.blocks.cpu())
