"""Carved attention on torch's FlexAttention: the fast path of a CUDA machine that cannot load the native library.

Key rows are [context | video | tail cells], each part padded to whole key blocks; a tail cell is a key row whose logit
gets + tail_bias in score_mod. Kept video blocks are full (no mask is evaluated there); context, tail and a ragged last
block are partial: mask_mod asks whether the block that decides about a column was kept.
Signature of reference.block_sparse_attention; the residual is added in torch. Made for torch.compile: eager
FlexAttention, which is what a CPU tensor gets, builds the whole score matrix and serves tests only.
"""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.attention import flex_attention as torch_flex
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from .operands import BlockLists, CarvedLayout, PreparedBlocks, Residual
from .reference import reorder_tokens
from .reference_residual import unpack_residual
from .reference_tail import log_counts

# Variants of one process: dtype, batch of one or more, block and tail sizes, masks. Sizes are dynamic after the second.
# Torch's own limit of 8 is reached by the 16th call of a session that changes them.
RECOMPILE_LIMIT = 128

# What torch 2.9 brought: without it the mask of the backward pass, which we have not, is made too.
_FORWARD_MASK = {"compute_q_blocks": False} if hasattr(torch_flex, "AuxRequest") else {}


def block_sparse_attention(
    q: torch.Tensor,
    blocks: PreparedBlocks,
    lists: BlockLists,
    softmax_scale: float,
    residual: Residual | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See reference.block_sparse_attention. Returns out [B, H, S, D] (memory [B, S, H, D]) and lse fp32 [B, H, S]."""
    batch, heads, tokens, dim = q.shape
    token_index, num_context = blocks.layout[:2]
    num_video, context_bias = tokens - num_context, blocks.filled_context_bias()
    columns = _columns(blocks, context_bias, num_video)
    block_mask = _block_mask(columns, blocks.layout, lists, context_bias.shape[1], num_video)
    out = q.new_empty(batch, tokens, heads, dim).transpose(1, 2)
    lse = q.new_empty(batch, heads, tokens, dtype=torch.float32)
    context_rows, video_rows = token_index[:num_context], token_index[num_context:]
    out[:, :, video_rows], lse[:, :, video_rows] = _flex(
        reorder_tokens(q, video_rows),
        columns.keys,
        columns.values,
        lambda score, b, h, row, column: score + columns.bias[b, h, column],
        block_mask,
        softmax_scale,
    )
    if num_context:
        # Context rows attend everything; of the bias only -inf counts for them.
        masked = F.pad(torch.where(context_bias > -torch.inf, 0.0, -torch.inf), (0, num_video))
        out[:, :, context_rows], lse[:, :, context_rows] = _flex(
            reorder_tokens(q, context_rows),
            blocks.k_carved,
            blocks.v_carved,
            lambda score, b, h, row, column: score + masked[b, column],
            None,
            softmax_scale,
        )
    if residual is not None:
        out += unpack_residual(residual, torch.float32).transpose(1, 2)
    return out, lse


class _Columns(NamedTuple):
    """The key rows that video rows attend: context, video, tail cells, each part filled up to whole key blocks."""

    keys: torch.Tensor  # [B, H, M, D]
    values: torch.Tensor
    bias: torch.Tensor  # fp32 [B, H, M], -inf: no token
    decider: torch.Tensor  # int [M]: the video block that decides about a column; their number: always kept
    is_token: torch.Tensor  # bool [M]: takes part when that block is kept, else (a tail cell) when it is dropped


def _columns(blocks: PreparedBlocks, context_bias: torch.Tensor, num_video: int) -> _Columns:
    kv_block_size, tail_block_size = blocks.layout[3:5]
    device, (batch, padded), heads = context_bias.device, context_bias.shape, blocks.k_carved.shape[1]
    num_kv_blocks = -(-num_video // kv_block_size)
    token = torch.arange(num_kv_blocks * kv_block_size, device=device)
    video_bias = torch.where(token < num_video, 0.0, -torch.inf).expand(batch, heads, -1)
    bias = [context_bias[:, None].expand(-1, heads, -1), video_bias]
    decider = [token.new_full((padded,), num_kv_blocks), token // kv_block_size]
    is_token = torch.ones(padded + token.numel(), dtype=torch.bool, device=device)
    keys, values = ([F.pad(x, (0, 0, 0, -num_video % kv_block_size))] for x in (blocks.k_carved, blocks.v_carved))
    if tail_block_size:
        fill = -blocks.k_tail.shape[2] % kv_block_size
        keys.append(F.pad(blocks.k_tail, (0, 0, 0, fill)))
        values.append(F.pad(blocks.v_tail, (0, 0, 0, fill)))
        cell = torch.arange(blocks.k_tail.shape[2] + fill, device=device)
        bias.append(
            F.pad(log_counts(blocks, num_video, torch.float32), (0, fill), value=-torch.inf)
        )  # the fill is no cell
        decider.append((cell * tail_block_size // kv_block_size).clamp_max(num_kv_blocks))
        is_token = F.pad(is_token, (0, cell.numel()), value=False)
    return _Columns(torch.cat(keys, 2), torch.cat(values, 2), torch.cat(bias, 2), torch.cat(decider), is_token)


def _block_mask(columns: _Columns, layout: CarvedLayout, lists: BlockLists, padded: int, num_video: int) -> BlockMask:
    """padded: context columns, gap included."""
    q_block_size, kv_block_size = layout[2:4]
    index, count = lists
    device, num_kv_blocks = index.device, -(-num_video // kv_block_size)
    # Column num_kv_blocks takes the -1 entries past the counts and stands for "always kept".
    listed = torch.where(index >= 0, index, num_kv_blocks).long()
    is_kept = torch.zeros(*listed.shape[:3], num_kv_blocks + 1, dtype=torch.bool, device=device)
    is_kept = is_kept.scatter_(3, listed, True).index_fill_(3, torch.tensor(num_kv_blocks, device=device), True)
    bias, decider, is_token = columns.bias, columns.decider, columns.is_token

    def mask_mod(b, h, row, column):
        kept = is_kept[b, h, row // q_block_size, decider[column]]
        return (kept == is_token[column]) & (bias[b, h, column] > -torch.inf)

    # The ragged last block, where it is kept, is the last of its ascending list: one full block less.
    first_video, num_columns = padded // kv_block_size, columns.keys.shape[2] // kv_block_size
    last_kept = is_kept[..., num_kv_blocks - 1].int() if num_video % kv_block_size else torch.zeros_like(count)
    full_index = F.pad(index.clamp_min(0) + first_video, (0, num_columns - index.shape[3]))
    partial = torch.cat(
        [
            torch.arange(first_video, device=device),
            torch.arange(first_video + num_kv_blocks, num_columns, device=device),
            torch.tensor([first_video + num_kv_blocks - 1], device=device),
        ]
    )
    partial_index = F.pad(partial.int(), (0, num_columns - partial.numel())).expand(*count.shape, -1)
    return BlockMask.from_kv_blocks(
        last_kept + (partial.numel() - 1),
        partial_index.contiguous(),
        count - last_kept,
        full_index.contiguous(),
        BLOCK_SIZE=(q_block_size, kv_block_size),
        mask_mod=mask_mod,
        seq_lengths=(num_video, columns.keys.shape[2]),
        **_FORWARD_MASK,
    )


def _flex(q, k, v, score_mod, block_mask, softmax_scale):
    if not _is_kernel(q):
        return _attend(q, k, v, score_mod, block_mask, softmax_scale, None)
    # Torch's own choice for small head dims, 128 keys at a time, does not divide our smallest key block.
    options = None if block_mask is None else {"BLOCK_N": 64}
    with torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT):
        return _compiled()(q, k, v, score_mod, block_mask, softmax_scale, options)


def _attend(q, k, v, score_mod, block_mask, softmax_scale, kernel_options):
    arguments = (q, k, v, score_mod, block_mask, softmax_scale)
    if not hasattr(torch_flex, "AuxRequest"):  # torch before 2.9
        return flex_attention(*arguments, kernel_options=kernel_options, return_lse=True)
    out, aux = flex_attention(*arguments, kernel_options=kernel_options, return_aux=torch_flex.AuxRequest(lse=True))
    return out, aux.lse


def _is_kernel(q: torch.Tensor) -> bool:
    """Whether this call must compile flex_attention: on a CPU it runs eagerly, a compiled caller compiles it too."""
    return q.is_cuda and not torch.compiler.is_compiling()


@functools.cache
def _compiled():
    """flex_attention is a kernel only when it is compiled. fullgraph: past torch's recompile limit it must be an error,
    not the eager form with its score matrix. `_attend` is ours, so that other users of flex_attention take no variant
    from the limit.
    """
    return torch.compile(_attend, fullgraph=True)
