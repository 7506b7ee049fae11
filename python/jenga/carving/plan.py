"""What carving knows before it sees q, k, v: the order of the tokens, forced blocks, the bias of the context."""

from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F

from . import curves, ops, reference
from .config import Q_BLOCK_SIZE, JengaConfig, TokenGrid
from .operands import CarvedLayout


@dataclass(frozen=True)
class Plan:
    """What depends on grid, sequence length and device alone."""

    layout: CarvedLayout
    forced_blocks: torch.Tensor | None  # bool [nq, nkv]: kept whatever the scores say
    num_video: int
    min_blocks: int


@torch.compiler.disable  # a tracer would unroll the walk along the curve
def make_plan(grid: TokenGrid, tokens: int, video_start: int, device, config: JengaConfig, native: bool) -> Plan:
    """video_start: raster row of the first video token. native: the compiled curve walk can be used."""
    source, num_video = ops if native else curves, grid.num_tokens
    order = source.curve_order(grid.t, grid.h, grid.w, config.curve)
    context = torch.cat([torch.arange(video_start), torch.arange(video_start + num_video, tokens)])
    token_index = torch.cat([context.int(), video_start + order])
    forced = _forced_blocks(grid, config, source) if config.adjacency else None
    tail = config.tail_block_size if config.compensation == "mean" else 0
    return Plan(
        CarvedLayout(
            token_index.to(device), tokens - num_video, Q_BLOCK_SIZE, config.kv_block_size, tail, *config.score_cells
        ),
        None if forced is None else forced.to(device),
        num_video,
        config.min_blocks(num_video),
    )


def _forced_blocks(grid: TokenGrid, config: JengaConfig, source: ModuleType) -> torch.Tensor:
    """bool [nq, nkv]: key blocks that a query block keeps because they touch it.

    With the sliced curve, blocks that hold a token of the first frame also keep each other (paper; the number of these
    blocks comes from the real frame size and counts the one that straddles its end, ours).
    """
    num_video, kv_block = grid.num_tokens, config.kv_block_size
    touch = source.block_adjacency(grid.t, grid.h, grid.w, config.curve, kv_block)
    num_q_blocks, per_query = -(-num_video // Q_BLOCK_SIZE), Q_BLOCK_SIZE // kv_block
    rows = F.pad(touch, (0, 0, 0, num_q_blocks * per_query - touch.shape[0]))
    forced = rows.view(num_q_blocks, per_query, -1).any(1)
    if config.curve == "gilbert2d_sliced":
        frame = grid.h * grid.w
        forced[: -(-frame // Q_BLOCK_SIZE), : -(-frame // kv_block)] = True
    return forced


def make_context_bias(plan: Plan, batch: int, video_start: int, text_bias, kv_mask):
    """fp32 [B, P] logit bias of the context columns, and whether a video column is masked (one host sync).

    text_bias: (start, stop, value) of raster columns; kv_mask: bool [B, S]; None where there is none.
    """
    token_index, num_context = plan.layout[:2]
    columns = token_index[:num_context]
    padded = num_context + -num_context % reference.CONTEXT_ALIGNMENT
    bias = torch.full((batch, padded), -torch.inf, device=columns.device)
    bias[:, :num_context] = 0
    if text_bias is not None:
        start, stop, value = text_bias
        bias[:, :num_context] += value * ((columns >= start) & (columns < stop))
    if kv_mask is None:
        return bias, False
    bias[:, :num_context].masked_fill_(~kv_mask[:, columns], -torch.inf)
    video = kv_mask[:, video_start : video_start + plan.num_video]
    return bias, not bool(video.all())
