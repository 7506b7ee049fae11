"""What a dropped tail cell may count as, in plain torch: rules beside the shipped one. Figures: RESULTS.md.

A dropped cell of n keys has one mean key and one mean value. The shipped weight is n exp(<q, mean key>), which the
exponential makes too small wherever the keys differ. The others multiply it by a ratio that the scores of selection
tell: what a cell's parts of 8 keys would weigh, over what it weighs as one, both for the mean of 16 queries, or its
geometric mean over the query cells of a block or of the head. Of one head; N video tokens in curve order, D head dim,
R query rows whose output is wanted.
"""

from collections.abc import Callable

import torch

from benchmarks.selection_rules import K_CELL, KV_BLOCK, Q_BLOCK, Q_CELL, means_of_parts

WEIGHTS = ("of its mean", "by query cells", "by query blocks", "by heads", "exact")


class Tail:
    """Of one head: q rows [R, D] at `places`, all k v [N, D], and the output with some key blocks kept."""

    def __init__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, places: torch.Tensor, tail_block_size: int):
        self._scale, self._size, self._places = q.shape[-1] ** -0.5, tail_block_size, places
        self._q, self._k, self._v = q[places], k, v
        logits = self._scale * self._q @ k.mT
        self._top = logits.amax(-1, keepdim=True)
        self._weights = (logits - self._top).exp()  # [R, N], of every key
        self._cell_of_key = torch.arange(len(k), device=k.device) // tail_block_size
        self._k_tail, self._tokens = means_of_parts(k, tail_block_size)
        self._v_tail, _ = means_of_parts(v, tail_block_size)
        self._q_means, _ = means_of_parts(q, Q_CELL)

    def exact(self) -> torch.Tensor:
        """Dense attention [R, D]."""
        return self._weights @ self._v / self._weights.sum(-1, keepdim=True)

    def output(self, kept: torch.Tensor, weight: str) -> torch.Tensor:
        """[R, D]. kept: bool [R, key blocks]; weight: of WEIGHTS."""
        kept_cells = kept.repeat_interleave(KV_BLOCK // self._size, 1)[:, : len(self._k_tail)]
        keys = self._weights * kept_cells[:, self._cell_of_key]
        cells = RULES[weight](self) * ~kept_cells
        total = keys.sum(-1, keepdim=True) + cells.sum(-1, keepdim=True)
        return (keys @ self._v + cells @ self._v_tail) / total

    def of_mean(self) -> torch.Tensor:
        return self._tokens * (self._scale * self._q @ self._k_tail.mT - self._top).exp()

    def by_query_cells(self) -> torch.Tensor:
        return self.of_mean() * self._log_ratio()[self._places // Q_CELL].exp()

    def by_query_blocks(self) -> torch.Tensor:
        of_block = torch.arange(len(self._q_means), device=self._k.device) // (Q_BLOCK // Q_CELL)
        log_ratio = self._log_ratio()
        blocks = torch.zeros(int(of_block[-1]) + 1, log_ratio.shape[1], device=log_ratio.device)
        blocks = blocks.index_add_(0, of_block, log_ratio) / of_block.bincount()[:, None]
        return self.of_mean() * blocks[self._places // Q_BLOCK].exp()

    def by_heads(self) -> torch.Tensor:
        return self.of_mean() * self._log_ratio().mean(0).exp()

    def exactly(self) -> torch.Tensor:
        sums = torch.zeros(len(self._q), len(self._k_tail), device=self._k.device)
        return sums.index_add_(1, self._cell_of_key, self._weights)

    def _log_ratio(self) -> torch.Tensor:
        """[query cells, tail cells]: log of the parts' weight over the whole's; at least 0 (Jensen)."""
        k_means, tokens = means_of_parts(self._k, K_CELL)
        logits = self._scale * self._q_means @ k_means.mT + tokens.log()
        parts = self._size // K_CELL
        padded = torch.nn.functional.pad(logits, (0, -logits.shape[1] % parts), value=-torch.inf)
        whole = self._scale * self._q_means @ self._k_tail.mT + self._tokens.log()
        return padded.unflatten(1, (-1, parts)).logsumexp(-1) - whole


RULES: dict[str, Callable[[Tail], torch.Tensor]] = dict(
    zip(WEIGHTS, (Tail.of_mean, Tail.by_query_cells, Tail.by_query_blocks, Tail.by_heads, Tail.exactly), strict=True)
)
