"""What a dropped tail cell may count as, in plain torch: the rules that were tried. Figures: RESULTS.md.

A dropped cell of n keys has one mean key and one mean value. Its weight of old is n exp(<q, mean key>), which the
exponential makes too small wherever the keys differ. The others multiply it by a ratio that the scores of selection
tell: what a cell's parts of 8 keys would weigh, over what it weighs as one, both for the mean of 16 queries, or its
geometric mean over the query cells of a block or of the head. Of one head; N video tokens in curve order, D head dim,
R query rows whose output is wanted.
"""

import torch
import torch.nn.functional as F

from benchmarks.selection_rules import K_CELL, KV_BLOCK, Q_BLOCK, Q_CELL, means_of_parts


class Tail:
    """Of one head: q rows [R, D] at `places`, all k v [N, D], and the output with some key blocks kept."""

    def __init__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, places: torch.Tensor, tail_block_size: int):
        self._places, self._v = places, v
        scale, queries = q.shape[-1] ** -0.5, q[places]
        logits = scale * queries @ k.mT
        top = logits.amax(-1, keepdim=True)
        self._weights = (logits - top).exp()  # [R, N], of every key
        self._cell_of_key = torch.arange(len(k), device=k.device) // tail_block_size
        self._cells_of_block = KV_BLOCK // tail_block_size
        k_tail, tokens = means_of_parts(k, tail_block_size)
        self._v_tail, _ = means_of_parts(v, tail_block_size)
        self._of_mean = tokens * (scale * queries @ k_tail.mT - top).exp()

        q_means, _ = means_of_parts(q, Q_CELL)
        k_means, key_tokens = means_of_parts(k, K_CELL)
        parts, per_cell = scale * q_means @ k_means.mT + key_tokens.log(), tail_block_size // K_CELL
        parts = F.pad(parts, (0, -parts.shape[1] % per_cell), value=-torch.inf).unflatten(1, (-1, per_cell))
        # [query cells, tail cells]: log of the parts' weight over the whole's; at least 0 (Jensen).
        self._log_ratio = parts.logsumexp(-1) - (scale * q_means @ k_tail.mT + tokens.log())

    def exact(self) -> torch.Tensor:
        """Dense attention [R, D]."""
        return self._weights @ self._v / self._weights.sum(-1, keepdim=True)

    def output(self, kept: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """[R, D]. kept: bool [R, key blocks]; weights [R, tail cells] of one of RULES."""
        kept_cells = kept.repeat_interleave(self._cells_of_block, 1)[:, : len(self._v_tail)]
        keys, cells = self._weights * kept_cells[:, self._cell_of_key], weights * ~kept_cells
        total = keys.sum(-1, keepdim=True) + cells.sum(-1, keepdim=True)
        return (keys @ self._v + cells @ self._v_tail) / total

    def of_mean(self) -> torch.Tensor:
        return self._of_mean

    def by_query_cells(self) -> torch.Tensor:
        return self._of_mean * self._log_ratio[self._places // Q_CELL].exp()

    def by_query_blocks(self) -> torch.Tensor:
        blocks, _ = means_of_parts(self._log_ratio, Q_BLOCK // Q_CELL)
        return self._of_mean * blocks[self._places // Q_BLOCK].exp()

    def by_heads(self) -> torch.Tensor:
        return self._of_mean * self._log_ratio.mean(0).exp()

    def exactly(self) -> torch.Tensor:
        return torch.zeros_like(self._of_mean).index_add_(1, self._cell_of_key, self._weights)


RULES = {
    "of its mean": Tail.of_mean,
    "by query cells": Tail.by_query_cells,
    "by query blocks": Tail.by_query_blocks,
    "by heads": Tail.by_heads,
    "exact": Tail.exactly,
}
