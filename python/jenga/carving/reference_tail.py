"""What a dropped tail cell counts as: step 4 of `reference.py`, for its size in a file of its own."""

import torch
import torch.nn.functional as F

from .operands import PreparedBlocks

SAMPLED_CELLS = 32  # query cells of a head that are looked at


def tail_bias(
    q_means: torch.Tensor,
    k_means: torch.Tensor,
    num_video: int,
    k_cell_size: int,
    tail_block_size: int,
    softmax_scale: float,
) -> torch.Tensor:
    """Step 4: the logarithm of how many tokens the mean of a dropped tail cell counts as. Source: ours.

    exp(<q, k>) summed over n_c keys is more than n_c exp(<q, mean key>) wherever the keys differ (Jensen). By how much,
    the key cells in the tail cell tell, each standing for its tokens: the log of what they weigh over what their mean
    key weighs, and its mean over query cells, which many heads' cells agree on. SAMPLED_CELLS of a head, evenly spread,
    tell it as well as all.
    q_means [B, H, nqc, D], k_means [B, H, nkc, D] as prepare_blocks makes them -> fp32 [B, H, nc], at least log n_c.
    """
    compute = torch.promote_types(q_means.dtype, torch.float32)
    number, parts = min(q_means.shape[2], SAMPLED_CELLS), tail_block_size // k_cell_size
    sampled = torch.arange(number, device=q_means.device) * q_means.shape[2] // number
    first = torch.arange(k_means.shape[2], device=q_means.device) * k_cell_size
    tokens = (num_video - first).clamp_max(k_cell_size).to(compute)
    scores = softmax_scale * q_means[:, :, sampled].to(compute) @ k_means.to(compute).mT

    def by_tail_cell(x, fill):  # [..., nkc] -> [..., nc, parts]
        return F.pad(x, (0, -x.shape[-1] % parts), value=fill).unflatten(-1, (-1, parts))

    weight = by_tail_cell(scores + tokens.log(), -torch.inf).logsumexp(-1)
    mean = by_tail_cell(scores * tokens, 0.0).sum(-1) / by_tail_cell(tokens, 0.0).sum(-1)
    return (weight - mean).mean(2)


def log_counts(blocks: PreparedBlocks, num_video: int, dtype: torch.dtype) -> torch.Tensor:
    """[B, H, nc]: tail_bias, or where there is none the logarithm of the tokens of every cell."""
    if blocks.tail_bias is not None:
        return blocks.tail_bias.to(dtype)
    size, (batch, heads, cells, _) = blocks.layout.tail_block_size, blocks.k_tail.shape
    first = torch.arange(cells, device=blocks.k_tail.device) * size
    return (num_video - first).clamp_max(size).to(dtype).log().expand(batch, heads, -1)
