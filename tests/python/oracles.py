"""The formulas of `kernels/params.h` in plain torch and float64, written from the header alone.

`*_plain` is the same thing as a torch user would write it in the dtype of the inputs: its error against float64 is the
measure of what an operator may err.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jenga.carving.operands import CarvedLayout, PreparedBlocks, Residual, ScoreCells

CONTEXT_ALIGNMENT = 128


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Relative L2 error."""
    return float((found.double() - exact.double()).norm() / exact.double().norm().clamp_min(1e-30))


def cell_means(x: Tensor, cell_size: int) -> Tensor:
    """[B, H, N, D] -> [B, H, ceil(N / cell_size), D], exact divisor at the end; torch's own pooling below float64."""
    if x.dtype == torch.float64:
        return torch.stack([cell.mean(-2) for cell in x.split(cell_size, dim=-2)], dim=-2)
    size = min(cell_size, x.shape[2])
    means = torch.nn.functional.avg_pool1d(x.flatten(0, 1).mT, size, ceil_mode=True, count_include_pad=False)
    return means.mT.unflatten(0, x.shape[:2])


def prepare_blocks(q, k, v, layout: CarvedLayout, context_bias=None, compute=torch.float64) -> PreparedBlocks:
    """All means and copies in the dtype `compute`."""
    token_index, num_context = layout[:2]
    tail_block_size = layout.tail_block_size
    rows = token_index.long()
    q, k, v = (x.to(compute)[:, :, rows] for x in (q, k, v))
    gap = -num_context % CONTEXT_ALIGNMENT

    def carve(x):
        context, video = x[:, :, :num_context].clone(), x[:, :, num_context:]
        if context_bias is not None:
            context.masked_fill_(context_bias[:, None, :num_context, None] == -math.inf, 0.0)
        return torch.cat([context, x.new_zeros(*x.shape[:2], gap, x.shape[3]), video], dim=2)

    video_q, video_k, video_v = (x[:, :, num_context:] for x in (q, k, v))
    no_cells = q.new_zeros(*q.shape[:2], 0, q.shape[3])
    tails = (cell_means(x, tail_block_size) if tail_block_size else no_cells for x in (video_k, video_v))
    means = (cell_means(video_q, layout.q_cell_size), cell_means(video_k, layout.k_cell_size))
    return PreparedBlocks(carve(k), carve(v), *means, *tails, layout, context_bias)


def block_shares(q_means, k_means, cells: ScoreCells, softmax_scale):
    """float64 [B, H, nq, nkv]: the share of its attention that a query block gives to a key block; rows sum to 1.

    Every cell is repeated for each of its tokens. A query token's weights are divided by their sum over all keys, in
    which every key is replaced by the mean of the up to four cells of its block that it lies in.
    """
    num_video, q_block_size, kv_block_size, q_cells, k_cells = cells
    video = torch.arange(num_video)
    q = q_means.double()[:, :, video // (q_block_size // q_cells)]
    k = k_means.double()[:, :, video // (kv_block_size // k_cells)]
    coarse_size = kv_block_size // max(1, k_cells // 4)
    means = torch.stack([x.mean(-2) for x in k.split(coarse_size, -2)], -2).to(k_means.dtype).double()
    coarse = softmax_scale * q @ means.mT[..., video // coarse_size]
    attention = (softmax_scale * q @ k.mT - coarse.logsumexp(-1, keepdim=True)).exp()
    by_key = torch.stack([x.sum(-1) for x in attention.split(kv_block_size, -1)], -1)
    masses = torch.stack([x.sum(-2) for x in by_key.split(q_block_size, -2)], -2)
    return masses / masses.sum(-1, keepdim=True)


def select_blocks(q_means, k_means, adjacency, cells, min_blocks, top_p, softmax_scale):
    """bool [B, H, nq, nkv]: which key blocks each query block keeps."""
    p = block_shares(q_means, k_means, cells, softmax_scale)
    mass, order = p.sort(dim=-1, descending=True, stable=True)
    num_kept = 1 + (mass.cumsum(-1) <= top_p).sum(-1, keepdim=True)
    num_kept = num_kept.clamp(min=min_blocks, max=p.shape[-1])
    ranks = torch.arange(p.shape[-1]).expand_as(order)
    kept = torch.zeros_like(p, dtype=torch.bool).scatter(-1, order, ranks < num_kept)
    return kept if adjacency is None else kept | adjacency


def tail_bias(q_means, k_means, num_video, k_cell_size, tail_block_size, softmax_scale):
    """float64 [B, H, nc]: see `kernels/params.h`, cell by cell."""
    number = min(q_means.shape[2], 32)
    sampled = [i * q_means.shape[2] // number for i in range(number)]
    first = torch.arange(k_means.shape[2]) * k_cell_size
    counts = (num_video - first).clamp(max=k_cell_size).double()
    scores = softmax_scale * q_means.double()[:, :, sampled] @ k_means.double().mT
    parts = tail_block_size // k_cell_size
    biases = []
    for score, count in zip(scores.split(parts, -1), counts.split(parts), strict=True):
        mean_key = (score * count).sum(-1) / count.sum()
        biases.append(((score + count.log()).logsumexp(-1) - mean_key).mean(-1))
    return torch.stack(biases, -1)


def lists_to_mask(kv_block_index: Tensor, kv_block_count: Tensor, num_kv: int) -> Tensor:
    """int32 lists -> bool [B, H, nq, nkv]."""
    listed = torch.arange(kv_block_index.shape[-1]) < kv_block_count[..., None]
    mask = torch.zeros(*kv_block_index.shape[:3], num_kv + 1, dtype=torch.bool)
    return mask.scatter(-1, torch.where(listed, kv_block_index.long(), num_kv), listed)[..., :num_kv]


def _logit_terms(num_tokens, kept, blocks, batch, heads):
    """float64 [B, H, S, C + N + nc]: what is added to softmax_scale * <q, key>, -inf where a key is not attended.

    Rows in the order of token_index (context first), columns: context, video in curve order, tail cells.
    """
    _, num_context, q_block_size, kv_block_size, tail_block_size = blocks.layout[:5]
    context_bias = blocks.context_bias
    num_video = num_tokens - num_context
    cells = ceil_div(num_video, tail_block_size) if tail_block_size else 0
    terms = torch.full((batch, heads, num_tokens, num_tokens + cells), -math.inf, dtype=torch.float64)
    bias = torch.zeros(batch, num_context, dtype=torch.float64)
    if context_bias is not None:
        bias = context_bias.double()[:, :num_context]
    is_open = torch.where(bias > -math.inf, 0.0, -math.inf)
    terms[:, :, :num_context, :num_context] = is_open[:, None, None]
    terms[:, :, :num_context, num_context:num_tokens] = 0.0
    terms[:, :, num_context:, :num_context] = bias[:, None, None]

    video = torch.arange(num_video)
    row_kept = kept[:, :, video // q_block_size]  # [B, H, N, nkv]
    in_kept_block = row_kept[..., video // kv_block_size]
    terms[:, :, num_context:, num_context:num_tokens].masked_fill_(in_kept_block, 0.0)
    if cells:
        first = torch.arange(cells) * tail_block_size
        counts = (num_video - first).clamp(max=tail_block_size).double()
        bias = counts.log() if blocks.tail_bias is None else blocks.tail_bias.double()[:, :, None]
        dropped = ~row_kept[..., first // kv_block_size]
        terms[:, :, num_context:, num_tokens:] = torch.where(dropped, bias, -math.inf)
    return terms


def _operands(q, blocks: PreparedBlocks, residual: Residual | None):
    """q rows in the order of token_index; keys and values: context, video, cells; the dequantised residual."""
    token_index, num_context = blocks.layout[:2]
    padded = ceil_div(num_context, CONTEXT_ALIGNMENT) * CONTEXT_ALIGNMENT
    keys, values = (
        torch.cat([carved[:, :, :num_context], carved[:, :, padded:], *([tail] if tail is not None else [])], 2)
        for carved, tail in zip((blocks.k_carved, blocks.v_carved), blocks.tail(), strict=True)
    )
    added = None if residual is None else dequantise(residual).transpose(1, 2)
    return q[:, :, token_index.long()], keys, values, added


def dequantise(packed: Residual) -> Tensor:
    """float64 [B, S, H, D] of a float, int8 or packed 4-bit residual."""
    residual, scale = packed
    if residual.dtype == torch.uint8:
        nibbles = torch.stack([residual & 15, residual >> 4], dim=-1).flatten(-2).to(torch.int8)
        residual = torch.where(nibbles >= 8, nibbles - 16, nibbles)
    return residual.double() if scale is None else residual.double() * scale.double()[..., None]


def _to_raster(x: Tensor, token_index: Tensor) -> Tensor:
    return torch.empty_like(x).index_copy_(2, token_index.long(), x)


def block_sparse_attention(q, blocks: PreparedBlocks, lists, softmax_scale, residual=None, plain=False):
    """out and lse in raster order, float64; with plain=True torch's own attention in the dtype of q."""
    batch, heads, tokens, _ = q.shape
    layout = blocks.layout
    token_index = layout.token_index
    kept = lists_to_mask(*lists, ceil_div(tokens - layout.num_context, layout.kv_block_size))
    terms = _logit_terms(tokens, kept, blocks, batch, heads)
    rows, keys, values, added = _operands(q, blocks, residual)
    nothing = (terms == -math.inf).all(-1)
    if plain:
        logits = (softmax_scale * (rows @ keys.mT)).float() + terms.float()
        out = torch.nn.functional.scaled_dot_product_attention(
            rows, keys, values, attn_mask=terms.float(), scale=softmax_scale
        ).double()
    else:
        logits = softmax_scale * (rows.double() @ keys.double().mT) + terms
        out = logits.softmax(-1) @ values.double()
    out = _to_raster(out.masked_fill(nothing[..., None], 0.0), token_index)
    if added is not None:
        out = (out.to(q.dtype) + added.to(q.dtype)).double() if plain else out + added
    return out, _to_raster(logits.logsumexp(-1).double()[..., None], token_index)[..., 0]


def assert_as_exact_as_torch(actual: Tensor, exact: Tensor, plain: Tensor) -> None:
    """The error against float64, in L2 and at the worst element, at most twice that of plain torch.

    Half a unit in the last place of the largest value is always allowed: plain torch may be exact by chance.
    """
    unit = torch.finfo(actual.dtype).eps / 2
    actual, plain = actual.cpu().double(), plain.double()
    assert actual.shape == exact.shape
    finite = exact.isfinite()
    assert torch.equal(actual.isfinite(), finite), (
        "NaN or infinity where the exact value has none, or none where it has"
    )
    actual, exact, plain = actual[finite], exact[finite], plain[finite]
    for name, measure in (("L2", torch.linalg.vector_norm), ("worst element", lambda x: x.abs().max())):
        if exact.numel():
            error, limit = measure(actual - exact), 2 * measure(plain - exact) + unit * measure(exact)
            assert error <= limit, f"{name} error {error:.3e}, of which at most {limit:.3e} is allowed"
