"""Carved attention in plain torch: the whole method, to be read from top to bottom.

Self-attention over tens of thousands of video tokens is most of the work of a video diffusion transformer. Most of its
mass sits on few keys, and tokens that are close in the video want the same ones. So:

1. Order.  Sort the video tokens along a space-filling curve (curves.py): a run of 64 or 128 of them, a *block*, is then
           a small piece of the video. What is not video is *context* and goes in front.         (prepare_blocks)
2. Pool.   Cut every block into a few *cells* and take their means; those of keys and values over *tail cells* (a key
           block or a part of one) as well.                                                                 (same)
3. Select. Compare the means: every head keeps, per query block, the key blocks that its cells want.  (select_blocks)
4. Weigh.  Tell from the same means how many tokens a dropped cell's mean counts as: its n_c and more.  (tail_bias)
5. Attend. One softmax over the context, the kept keys and (compensation) for every dropped cell one mean token that
           counts as so many, so that nothing is forgotten.                             (block_sparse_attention)

Names and signatures are those of the operators torch.ops.jenga.*; this file is their oracle and last resort. Any device
and floating dtype, computed in fp32 (float64: fp64), in pieces: no [S, S] matrix. B batch, H heads, S tokens, D head
dim, C context tokens, N video tokens, P = C rounded up to 128; nq, nkv: query and key blocks; nqc, nkc, nc: query, key
and tail cells; the last may be ragged. Carved key rows: context 0 .. C-1, zeros C .. P-1, the video in curve order.
"""

import itertools

import torch
import torch.nn.functional as F

from . import quantise
from .operands import BlockLists, CarvedLayout, PreparedBlocks, Residual, ScoreCells
from .quantise import SIXTEEN_BIT, Precision
from .reference_residual import pack_residual as pack_residual  # an operator like the others, as tail_bias is
from .reference_residual import unpack_residual
from .reference_tail import log_counts
from .reference_tail import tail_bias as tail_bias

CONTEXT_ALIGNMENT = 128
# Elements of one piece of work: what the caches of a CPU hold, what fills an accelerator.
CPU_PIECE = 1 << 21
DEVICE_PIECE = 1 << 25


def reorder_tokens(x: torch.Tensor, token_index: torch.Tensor) -> torch.Tensor:
    """x [..., S, D] -> out[..., i, :] = x[..., token_index[i], :]."""
    return x.index_select(-2, token_index)


def block_means(x: torch.Tensor, block_size: int) -> torch.Tensor:
    """Mean of every block of `block_size` tokens, over the tokens it really has. Source: paper; exact divisor ours.

    x [B, H, N, D] -> fp32 (float64: fp64) [B, H, ceil(N / block_size), D].
    """
    batch, heads, tokens, dim = x.shape
    num_blocks = -(-tokens // block_size)
    filled = F.pad(x, (0, 0, 0, num_blocks * block_size - tokens)).view(batch, heads, num_blocks, block_size, dim)
    count = (tokens - torch.arange(num_blocks, device=x.device) * block_size).clamp_max(block_size)
    return filled.sum(3, dtype=_compute_dtype(x)) / count[:, None]


def prepare_blocks(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: CarvedLayout,
    context_bias: torch.Tensor | None = None,
    precision: Precision = SIXTEEN_BIT,
) -> PreparedBlocks:
    """Steps 1 and 2: keys and values in carved order, and every mean that the next steps need.

    q k v [B, H, S, D] in raster order. Everything has the dtype of q, but what precision has in 8 bits (quantise.py).
    Context rows that context_bias fp32 [B, P] masks with -inf are written as zeros, so that whatever a masked token
    holds, NaN included, stays out of the arithmetic.
    """
    token_index, num_context = layout[:2]
    gap = -num_context % CONTEXT_ALIGNMENT

    def carve(x):
        context, video = reorder_tokens(x, token_index).split([num_context, x.shape[2] - num_context], dim=2)
        context = F.pad(context, (0, 0, 0, gap))
        if context_bias is not None:
            context = torch.where(context_bias[:, None, :, None] > -torch.inf, context, 0)
        return torch.cat([context, video], dim=2), video

    k_carved, k_video = carve(k)
    v_carved, v_video = carve(v)

    def exact_means(x, cell_size):
        return block_means(x, cell_size) if cell_size else x[:, :, :0].to(_compute_dtype(x))

    def means(x, cell_size):
        return exact_means(x, cell_size).to(x.dtype)

    q_means = means(reorder_tokens(q, token_index[num_context:]), layout.q_cell_size)
    tails = [exact_means(x, layout.tail_block_size) for x in (k_video, v_video)]
    blocks_means = (q_means, means(k_video, layout.k_cell_size), *(x.to(q.dtype) for x in tails))
    blocks = PreparedBlocks(k_carved, v_carved, *blocks_means, layout, context_bias)
    return blocks if precision == SIXTEEN_BIT else quantise.quantise_blocks(blocks, *tails, precision)


def select_blocks(
    q_means: torch.Tensor,
    k_means: torch.Tensor,
    adjacency: torch.Tensor | None,
    cells: ScoreCells,
    min_blocks: int,
    top_p: float,
    softmax_scale: float,
) -> BlockLists:
    """Step 3: the key blocks that every (head, query block) keeps.

    p = the share of its attention that a query block gives to a key block, as far as their cells tell (`block_scores`),
    sorted downwards, ties by index. Kept are the first max(min_blocks, 1 + number of prefixes whose mass is <= top_p)
    blocks, and every block that adjacency forces.
    q_means [B, H, nqc, D], k_means [B, H, nkc, D] as prepare_blocks makes them; adjacency bool [nq, nkv] or None.
    Returns kv_block_index int32 [B, H, nq, max_kv], ascending, -1 past the count, and kv_block_count int32 [B, H, nq];
    max_kv = nkv with top_p or adjacency, else min(min_blocks, nkv). Source: paper; ties and finer cells ours.
    """
    scores = block_scores(q_means, k_means, cells, softmax_scale)
    num_blocks = scores.shape[-1]
    scores, by_rank = scores.sort(dim=-1, descending=True, stable=True)
    need = (1 + (scores.softmax(-1).cumsum(-1) <= top_p).sum(-1, keepdim=True)).clamp_min(min_blocks)
    rank = torch.arange(num_blocks, device=scores.device)
    kept = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, by_rank, rank < need)
    if adjacency is not None:
        kept |= adjacency
    max_kv = num_blocks if top_p > 0 or adjacency is not None else min(min_blocks, num_blocks)

    count = kept.sum(-1, dtype=torch.int32)
    ascending = torch.where(kept, rank, num_blocks).sort(dim=-1).values[..., :max_kv]
    return BlockLists(torch.where(ascending < num_blocks, ascending, -1).int(), count)


def block_scores(q_means, k_means, cells: ScoreCells, softmax_scale: float) -> torch.Tensor:
    """[B, H, nq, nkv]: the logarithm of the attention that each query block gives to each key block, up to a constant
    for each query block. Source: ours.

    A query cell attends the key cells, each standing for the n_c tokens it has: logits softmax_scale q.k + log n_c. A
    block's score sums their weights over its key cells and its query cells (by log-sum-exp), query cells weighing their
    tokens over what they give to all keys. That total takes one mean for every four key cells of a block: finer ones
    tell it no better.
    """
    num_video, q_block_size, kv_block_size, q_cells, k_cells = cells
    q_size, k_size = q_block_size // q_cells, kv_block_size // k_cells
    compute = _compute_dtype(q_means)

    def tokens(number, size):
        first = torch.arange(number, device=q_means.device) * size
        return (num_video - first).clamp_max(size).to(compute)

    def blocks(x, size, dim, fill):  # the last block filled up, and cut into blocks
        padding = (0, 0) * (-1 - dim) + (0, -x.shape[dim] % size)
        return F.pad(x, padding, value=fill).unflatten(dim, (-1, size))

    q, k = q_means.to(compute), k_means.to(compute)
    q_tokens, k_tokens = tokens(q.shape[2], q_size), tokens(k.shape[2], k_size)
    coarse_tokens = blocks(k_tokens, min(k_cells, 4), -1, 0.0).sum(-1)
    coarse_means = blocks(k * k_tokens[:, None], min(k_cells, 4), -2, 0.0).sum(-2) / coarse_tokens[:, None]
    coarse_means = coarse_means.to(k_means.dtype).to(compute)
    batch, heads, num_q_cells, _ = q.shape
    step = max(1, _piece(q) // (k.shape[2] * q_cells)) * q_cells
    out = q.new_empty(batch, heads, -(-num_q_cells // q_cells), -(-k.shape[2] // k_cells))
    for b, h in itertools.product(range(batch), range(heads)):
        for first in range(0, num_q_cells, step):
            piece = slice(first, first + step)
            logits = torch.addmm(k_tokens.log(), q[b, h, piece], k[b, h].mT, alpha=softmax_scale)
            coarse = torch.addmm(coarse_tokens.log(), q[b, h, piece], coarse_means[b, h].mT, alpha=softmax_scale)
            weight = q_tokens[piece].log() - coarse.logsumexp(-1)
            score = blocks(logits, k_cells, -1, -torch.inf).logsumexp(-1) + weight[:, None]
            score = blocks(score, q_cells, -2, -torch.inf).logsumexp(-2)
            out[b, h, first // q_cells : first // q_cells + len(score)] = score
    return out


def block_sparse_attention(
    q: torch.Tensor,
    blocks: PreparedBlocks,
    lists: BlockLists,
    softmax_scale: float,
    residual: Residual | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Step 5: one softmax over context, kept blocks and, for the dropped ones, tail cells.

    Logits of a video row q: softmax_scale q.k_j + context_bias_j over the context, softmax_scale q.k_j over the kept
    blocks, softmax_scale q.k_tail_c + tail_bias_c (value v_tail_c) over the tail cells of dropped blocks. A context row
    attends all context with context_bias > -inf, without the finite part of the bias, and the whole video.
    q [B, H, S, D] raster order; residual is added to out. With 8-bit blocks q and weights are rounded (quantise.py).
    Returns out [B, H, S, D] in raster order (memory [B, S, H, D]) and lse fp32 [B, H, S], natural log, which covers the
    tail. A row with nothing to attend: out 0, lse -inf. Source: paper; compensation and lse ours.
    """
    token_index, num_context = blocks.layout[:2]
    compute = _compute_dtype(q)
    bias = blocks.filled_context_bias().to(compute)
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    lse = q.new_empty(q.shape[:3], dtype=compute)
    rows_q, numbers = quantise.as_computed(q, blocks, compute)

    def attend(rows, attend_rows, *arguments):
        part, lse[:, :, rows] = attend_rows(reorder_tokens(rows_q, rows), numbers, *arguments, bias, softmax_scale)
        out[:, :, rows] = quantise.with_center(part, blocks.values, lse[:, :, rows]).to(q.dtype)

    attend(token_index[num_context:], _video_rows, lists)
    if num_context:
        attend(token_index[:num_context], _context_rows)
    lse += quantise.lost_logit(q.to(compute), blocks.keys, softmax_scale)
    out = out.transpose(1, 2).contiguous().transpose(1, 2)  # not before: torch's writes to such rows may miss on CUDA
    if residual is not None:
        out += unpack_residual(residual, compute).transpose(1, 2)
    return out, lse


def _video_rows(q, prepared: PreparedBlocks, lists: BlockLists, context_bias, softmax_scale):
    """q [B, H, N, D] in curve order -> out [B, H, N, D], lse [B, H, N].

    Every (head, query block) is a small dense attention over its own columns. As many of these as fit run together.
    """
    batch, heads, num_video, dim = q.shape
    q_block, kv_block, cell_size = prepared.layout[2:5]
    index, count = (x.flatten(0, 2) for x in lists)  # one row per (b, h, query block)
    num_q_blocks, num_kv_blocks = -(-num_video // q_block), -(-num_video // kv_block)
    padded = context_bias.shape[1]

    def blocks(x, size, number):  # [B, H, n, D] -> [B * H, number, size, D], the last block filled with zeros
        return F.pad(x, (0, 0, 0, number * size - x.shape[2])).view(batch * heads, number, size, x.shape[3])

    q_blocks = blocks(q, q_block, num_q_blocks).flatten(0, 1)
    carved = (prepared.k_carved, prepared.v_carved)
    context = [x[:, :, :padded].flatten(0, 1) for x in carved]
    video = [blocks(x[:, :, padded:], kv_block, num_kv_blocks) for x in carved]
    if cell_size:
        cells = [x.flatten(0, 1) for x in prepared.tail()]
        cell = torch.arange(cells[0].shape[1], device=q.device)
        cell_bias = log_counts(prepared, num_video, context_bias.dtype).flatten(0, 1)
        block_of_cell = cell * cell_size // kv_block

    out, lse = torch.empty_like(q_blocks), q.new_empty(q_blocks.shape[:2], dtype=context_bias.dtype)
    columns = padded + index.shape[1] * kv_block + (cells[0].shape[1] if cell_size else 0)
    step = max(1, _piece(q) // (columns * max(dim, q_block)))
    for first in range(0, len(q_blocks), step):
        piece = slice(first, first + step)
        kept = index[piece, : int(count[piece].max())].long()  # [c, m] key blocks, -1 where the list is shorter
        row = torch.arange(first, first + len(kept), device=q.device) // num_q_blocks  # which (b, h)

        token = kept[..., None] * kv_block + torch.arange(kv_block, device=q.device)
        valid = (kept[..., None] >= 0) & (token < num_video)
        column_bias = [context_bias[row // heads], torch.where(valid, 0.0, -torch.inf).flatten(1).to(context_bias)]
        keys, values = (
            [context[i][row], video[i][row[:, None], kept.clamp_min(0)].flatten(1, 2)]
            + ([cells[i][row]] if cell_size else [])
            for i in (0, 1)
        )
        if cell_size:
            # Column num_kv_blocks takes the -1 entries of shorter lists.
            is_kept = torch.zeros(len(kept), num_kv_blocks + 1, dtype=torch.bool, device=q.device)
            is_kept.scatter_(1, torch.where(kept >= 0, kept, num_kv_blocks), True)
            column_bias.append(torch.where(is_kept[:, block_of_cell], -torch.inf, cell_bias[row]))
        segments = None if prepared.values is None else [x.shape[1] for x in column_bias]
        columns_of_piece = (torch.cat(x, 1) for x in (keys, values, column_bias))
        piece_out, lse[piece] = _attend(q_blocks[piece], *columns_of_piece, softmax_scale, segments)
        out[piece] = piece_out.to(q.dtype)
    out = out.view(batch, heads, num_q_blocks * q_block, dim)[:, :, :num_video]
    return out, lse.view(batch, heads, num_q_blocks * q_block)[:, :, :num_video]


def _context_rows(q, prepared: PreparedBlocks, context_bias, softmax_scale):
    """q [B, H, C, D] -> out, lse: dense attention over every column that is not masked."""
    batch, heads, rows, dim = q.shape
    k_carved, v_carved = prepared.k_carved, prepared.v_carved
    bias = torch.where(context_bias > -torch.inf, 0.0, -torch.inf).to(context_bias)
    segments = None if prepared.values is None else [k_carved.shape[2]]  # the context ends where a unit does
    bias = F.pad(bias, (0, k_carved.shape[2] - bias.shape[1]))  # video columns: 0
    out, lse = torch.empty_like(q), q.new_empty(batch, heads, rows, dtype=bias.dtype)
    step = max(1, _piece(q) // k_carved.shape[2])
    for b, h in itertools.product(range(batch), range(heads)):
        for first in range(0, rows, step):
            piece = slice(first, first + step)
            arguments = (x.unsqueeze(0) for x in (q[b, h, piece], k_carved[b, h], v_carved[b, h], bias[b]))
            piece_out, lse[b, h, piece] = (x[0] for x in _attend(*arguments, softmax_scale, segments))
            out[b, h, piece] = piece_out.to(q.dtype)
    return out, lse


def _attend(q, k, v, bias, softmax_scale, segments):
    """Softmax attention of c independent pieces. q [c, R, D], k v [c, M, D], bias [c, M] -> out, lse [c, R].

    segments: as of `quantise.weights_in_units`, where weights are e4m3.
    """
    q, k, v = (x.to(bias.dtype) for x in (q, k, v))
    if k.shape[1] == 0:
        return torch.zeros_like(q), q.new_full(q.shape[:2], -torch.inf)
    logits = torch.baddbmm(bias[:, None, :], q, k.transpose(1, 2), alpha=softmax_scale)
    top = logits.amax(-1, keepdim=True).clamp_min(torch.finfo(logits.dtype).min)  # finite, also where all is masked
    weights = logits.sub_(top).exp_() if segments is None else quantise.weights_in_units(logits, top, segments)
    total = weights.sum(-1, keepdim=True)
    out = weights @ v / total.clamp_min(torch.finfo(total.dtype).tiny)
    return out, (top + total.log()).squeeze(-1)


def _piece(x: torch.Tensor) -> int:
    return CPU_PIECE if x.device.type == "cpu" else DEVICE_PIECE


def _compute_dtype(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
