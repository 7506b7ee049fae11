"""Rules of selection that were tried beside the shipped one, in plain torch; figures: RESULTS.md.

A rule takes q, k, v [B, H, N, D] in curve order and gives scores [B, H, query blocks, key blocks] or lists. N video
tokens, D head dim. Like the default, all but the oracle see means of 16 queries and of 8 keys alone.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F

from jenga import CarvedAttention, JengaConfig
from jenga.carving import ops, reference
from jenga.carving.config import Q_BLOCK_SIZE as Q_BLOCK
from jenga.carving.operands import BlockLists, ScoreCells

KV_BLOCK = 64
HALF = 64  # queries of a half of a query block
Q_CELL, K_CELL = 16, 8
SPREADS = ("own mean", "block's mean", "keys and values", "cells as means", "beyond the tail")


def top(scores: torch.Tensor, number: int | torch.Tensor) -> BlockLists:
    """Of every row of scores the `number` best blocks, ties by index; a number for all rows or int [B, H, nq]."""
    by_rank = scores.sort(dim=-1, descending=True, stable=True).indices
    num_blocks = scores.shape[-1]
    count = torch.as_tensor(number, dtype=torch.int32, device=scores.device).expand(scores.shape[:3]).contiguous()
    by_rank = by_rank[..., : int(count.max())]
    listed = torch.arange(by_rank.shape[-1], device=scores.device) < count[..., None]
    ascending = torch.where(listed, by_rank, num_blocks).sort(dim=-1).values
    return BlockLists(torch.where(ascending < num_blocks, ascending, -1).int(), count)


def kept_mask(lists: BlockLists, num_blocks: int) -> torch.Tensor:
    """bool [B, H, nq, num_blocks]: what lists keep."""
    index, count = lists
    listed = torch.arange(index.shape[-1], device=index.device) < count[..., None]
    kept = torch.zeros(*count.shape, num_blocks + 1, dtype=torch.bool, device=index.device)
    kept.scatter_(-1, torch.where(listed, index, num_blocks).long(), True)  # what is not listed lands behind them
    return kept[..., :-1]


def _parts(x: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [n, ...] in parts of `size`, the last filled with zeros [parts, size, ...], and 1 where a row is real."""
    filled = F.pad(x, (0, 0) * (x.dim() - 1) + (0, -len(x) % size))
    real = torch.arange(len(filled), device=x.device) < len(x)
    return filled.unflatten(0, (-1, size)), real.view(-1, size).to(x)


def means_of_parts(x: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means [parts, D] of parts of `size` rows, and how many rows each has."""
    parts, real = _parts(x, size)
    tokens = real.sum(1)
    return parts.sum(1) / tokens[:, None], tokens


def _distance(x: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """Root mean square distance of the rows of every key cell from its center [key cells, D]."""
    cells, real = _parts(x, K_CELL)
    return (((cells - centers[:, None]).square().sum(-1) * real).sum(1) / real.sum(1)).sqrt()


def predicted_error(q, k, v, spread: str) -> torch.Tensor:
    """What dropping a block is expected to cost, its share of attention times a `spread` of its key cells:

    own mean         of the cell's values about their own mean
    block's mean     of the cell's values about the mean of their block, which is the tail cell that would stand for it
    keys and values  the one before, times that of the cell's keys
    cells as means   not a product: the norm of what the output would change by, were every cell its mean
    beyond the tail  nor this: its share of attention by its cells less that of its tail cell, which would stand for it
    """
    each = [_predicted_error(*(x[b, h] for x in (q, k, v)), spread) for b, h in _heads(q)]
    return torch.stack(each).unflatten(0, q.shape[:2])


def _heads(q):
    return [(b, h) for b in range(q.shape[0]) for h in range(q.shape[1])]


def _predicted_error(q, k, v, spread: str) -> torch.Tensor:
    """Of one head: q k v [N, D] -> [nq, nkv]."""
    (q_means, q_tokens), (v_means, _) = means_of_parts(q, Q_CELL), means_of_parts(v, K_CELL)
    k_means, k_tokens = means_of_parts(k, K_CELL)
    scale, per_block = q.shape[-1] ** -0.5, KV_BLOCK // K_CELL
    logits = scale * q_means @ k_means.mT + k_tokens.log()
    total = logits.logsumexp(-1, keepdim=True)
    share = (logits - total).exp()  # of a query cell's attention [query cells, key cells]
    (k_tail, tail_tokens), (v_tail, _) = means_of_parts(k, KV_BLOCK), means_of_parts(v, KV_BLOCK)

    def by_block(x):  # [..., key cells] -> [..., nkv, cells of a block]
        return F.pad(x, (0, -x.shape[-1] % per_block)).unflatten(-1, (-1, per_block))

    tail_share = (scale * q_means @ k_tail.mT + tail_tokens.log() - total).exp()
    if spread == "cells as means":
        excess = by_block(share) - tail_share[..., None] * by_block(k_tokens) / tail_tokens[:, None]
        out = share @ v_means
        change = torch.einsum("qbc,bcd->qbd", excess, _parts(v_means, per_block)[0])
        error = (change - excess.sum(-1, keepdim=True) * out[:, None]).square().sum(-1)
    elif spread == "beyond the tail":
        error = (by_block(share).sum(-1) - tail_share).clamp_min(0)
    else:
        of_block = torch.arange(len(k_means), device=q.device) // per_block
        weight = _distance(v, v_means if spread == "own mean" else v_tail[of_block])
        if spread == "keys and values":
            weight = weight * _distance(k, k_tail[of_block])
        error = by_block(share * weight).sum(-1)
    return _parts(error * q_tokens[:, None], Q_BLOCK // Q_CELL)[0].sum(1)


def exact_error(q, k, v) -> torch.Tensor:
    """The oracle of predicted_error: squared change of the output, token by token, if this block alone were dropped."""
    each = [_exact_error(*(x[b, h] for x in (q, k, v))) for b, h in _heads(q)]
    return torch.stack(each).unflatten(0, q.shape[:2])


def _exact_error(q, k, v) -> torch.Tensor:
    """Of one head: q k v [N, D] -> [nq, nkv]."""
    (keys, real), (values, _), scale = _parts(k, KV_BLOCK), _parts(v, KV_BLOCK), q.shape[-1] ** -0.5
    (k_tail, tail_tokens), (v_tail, _) = means_of_parts(k, KV_BLOCK), means_of_parts(v, KV_BLOCK)
    rows = []
    for queries in q.split(Q_BLOCK):
        logits = torch.einsum("qd,bjd->bqj", scale * queries, keys).masked_fill(real[:, None] == 0, -torch.inf)
        total = logits.logsumexp((0, 2))
        share = (logits - total[:, None]).exp()
        tail_share = (scale * k_tail @ queries.mT + tail_tokens.log()[:, None] - total).exp()  # [nkv, queries]
        given = share @ values
        lost = given - tail_share[..., None] * v_tail[:, None]
        more = share.sum(-1) - tail_share  # of the weight, which the softmax divides by
        lost = (lost - more[..., None] * given.sum(0)) / (1 - more)[..., None]
        rows.append(lost.square().sum((1, 2)))
    return torch.stack(rows)


def half_scores(q, k, q_cells: int, k_cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The shipped rule's scores for the first and for the second half of every query block; cells: of a whole block."""
    q_size, k_size = min(Q_BLOCK // q_cells, HALF), KV_BLOCK // k_cells
    means = (reference.block_means(x, size) for x, size in ((q, q_size), (k, k_size)))
    cells = ScoreCells(q.shape[2], HALF, KV_BLOCK, HALF // q_size, k_cells)
    scores = reference.block_scores(*means, cells, q.shape[-1] ** -0.5)
    if scores.shape[2] % 2:  # the last query block has no second half
        scores = torch.cat([scores, scores[:, :, -1:]], 2)
    return scores[:, :, ::2], scores[:, :, 1::2]


def better_rank(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Rank of every block with the half that ranks it higher, from 0; the lists of n blocks have those below n in their
    union.
    """
    ranks = (x.sort(dim=-1, descending=True, stable=True).indices.argsort(-1) for x in (first, second))
    return torch.minimum(*ranks)


def stages(rank: torch.Tensor, number: int) -> float:
    """Stages of a tile that carries two lists of `number` blocks, over those of one list; rank: better_rank."""
    return float((rank < number).sum(-1).double().mean()) / number


def number_within(rank: torch.Tensor, number: int) -> torch.Tensor:
    """int [B, H, nq]: the longest two lists whose union has at most `number` blocks; rank: better_rank."""
    if number >= rank.shape[-1]:
        return torch.full(rank.shape[:3], rank.shape[-1], device=rank.device)
    return rank.sort(-1).values[..., number]


class RuledAttention:
    """A CarvedAttention whose lists a rule makes where none are given: rule(q, k, v, number) -> BlockLists.

    weighs_tail: as the configuration has it; False: a dropped tail cell counts as its tokens.
    """

    def __init__(self, config: JengaConfig, rule, weighs_tail: bool = True):
        self.config, self._carved, self._rule = config, CarvedAttention(config), rule
        self._weighs_tail = weighs_tail and config.weighs_tail
        self.pack_residual = self._carved.pack_residual

    def __call__(self, q, k, v, grid, *context, lists=None, residual=None, tail_bias=None):
        if len(context) == 7:  # as AttentionInput.carve has it
            *context, lists, residual, tail_bias = context
        if lists is None:
            carved = in_curve_order(grid, q, k, v)
            lists = self._rule(*carved, self.config.min_blocks(grid.num_tokens))
            tail_bias = self._tail_bias(*carved[:2]) if self._weighs_tail else None
        return self._attend(q, k, v, grid, *context, lists=lists, residual=residual, tail_bias=tail_bias)

    def _tail_bias(self, q, k):
        q_cells, k_cells = self.config.score_cells
        q_size, k_size = Q_BLOCK // q_cells, self.config.kv_block_size // k_cells
        means = reference.block_means(q, q_size), reference.block_means(k, k_size)
        return reference.tail_bias(*means, k.shape[2], k_size, self.config.tail_block_size, q.shape[-1] ** -0.5)

    def _attend(self, *arguments, **state):
        return self._carved(*arguments, **state)


class HalvedLists(RuledAttention):
    """A RuledAttention with a list for every 64 queries; its lists [B, H, 2 nq, ...] are those of the halves.

    It attends twice, once with either list; rows then come from the half that they are in, as a kernel with two lists
    in a tile would give them. within: lists are so short that their union is not longer than one list would be.
    """

    def __init__(self, config: JengaConfig, within: bool = False):
        super().__init__(config, self._select)
        self._within = within

    def _attend(self, q, k, v, grid, *context, lists, **state):
        halves = (BlockLists(*(x[:, :, half::2].contiguous() for x in lists)) for half in (0, 1))
        first, second = (self._carved(q, k, v, grid, *context, lists=x, **state) for x in halves)
        order = ops.curve_order(grid.t, grid.h, grid.w).to(q.device)
        in_second = torch.empty_like(order, dtype=torch.bool)
        in_second[order.long()] = torch.arange(len(order), device=q.device) // HALF % 2 == 1
        out = torch.where(in_second[:, None], second.out, first.out)
        return replace(first, out=out, lists=lists, kept_share=(first.kept_share + second.kept_share) / 2)

    def _select(self, q, k, v, number: int) -> BlockLists:
        halves = half_scores(q, k, *self.config.score_cells)
        if self._within:
            number = number_within(better_rank(*halves), number).repeat_interleave(2, 2)
        return top(torch.stack(halves, 3).flatten(2, 3), number)


def union_as_one_list(q, k, v, number: int) -> BlockLists:
    """One list of the blocks that two lists in a tile would have stages for, as many as fit."""
    return top(-better_rank(*half_scores(q, k, Q_BLOCK // Q_CELL, KV_BLOCK // K_CELL)), number)


def shipped(q, k, v, number: int) -> BlockLists:
    """The shipped rule, for a RuledAttention."""
    means = reference.block_means(q, Q_CELL), reference.block_means(k, K_CELL)
    cells = ScoreCells(q.shape[2], Q_BLOCK, KV_BLOCK, Q_BLOCK // Q_CELL, KV_BLOCK // K_CELL)
    return top(reference.block_scores(*means, cells, q.shape[-1] ** -0.5), number)


def in_curve_order(grid, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """[B, H, N, D] in raster order -> the same in curve order, fp32."""
    order = ops.curve_order(grid.t, grid.h, grid.w).to(tensors[0].device)
    return [reference.reorder_tokens(x, order).float() for x in tensors]
