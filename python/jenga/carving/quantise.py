"""Keys and values in 8 bits, in plain torch: what prepare_blocks writes and attention reads. Source: ours.

Keys. Every key loses the same vector, `center`: it adds one number to all logits of a query, which softmax does not
see and lse gets back. What remains is rotated by a Hadamard matrix H, as queries are, which leaves their products: a
channel far larger than the others is spread over all, and does not set the step of every code. (Source: the incoherent
processing of FlashAttention-3; without its random signs, ours.) It becomes int8 codes (e4m3 to compare with), H (k -
center) / n = scale * codes, with one scale for 64 carved rows, or 64 tail means, which a kernel need not apply to every
score by itself. Queries, H q, get int8 codes and a scale a row inside attention, where they are read.

Values. Every value loses `center` too, which the output gets back since the weights sum to 1. What remains is e4m3 with
one scale a channel, v = center + scale * codes. Weights are e4m3 too, as shares of the largest of their unit, the keys
that a kernel multiplies at a time: the weight that counts most is exact, and thousands of keys that are small beside
another unit's, which together may carry as much, keep what they have. An e4m3 code is nearly a logarithm (eight codes
to a power of two, straight lines between), so the code of a weight is its rounded logarithm, for which no exponential
is taken. That moves a weight by up to 8 % (the nearest e4m3: 6 %) and not in the mean. Codes end 15.7 powers down. What
divides is the sum of the rounded ones: they sum to 1.

A center is the mean of every 16th video row along the curve: any vector is right, and a mean is a good one, so that a
sixteenth of a read of K does. Of values these rows tell the scales too: their largest is 8, far from 448 at the top and
from .0156 where e4m3 loses bits, and only where a row is 56 times as large must all of V be read before it is coded.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .operands import EightBitKeys, EightBitValues, PreparedBlocks

CENTER_STEP = 16
E4M3_MAX = 448.0
SAMPLED_E4M3_MAX = 8.0
LARGEST_CODE, CODES_PER_POWER = 126, 8  # the code of 448, codes to a power of two
MOST_ROTATED = 128  # channels together
BLOCK_ROWS = 64  # of keys that share a scale, of e4m3 values in blocks
# The row at every place of sixteen in such a block, in which order a thread has weights (`kernels/value_blocks.h`).
ROW_AT_PLACE = [2 * (i // 4) + i % 2 + 8 * (i % 4 // 2) for i in range(16)]


def rotation_size(head_dim: int) -> int:
    """n: channels that are rotated together, the largest power of two that head_dim is a multiple of, at most 128: no
    kernel has rows of int8 keys that are longer.
    """
    return min(head_dim & -head_dim, MOST_ROTATED)


def hadamard(x: torch.Tensor) -> torch.Tensor:
    """x [..., D] times H, of ones and minus ones: every n neighbouring channels by the Hadamard matrix of that size, in
    Sylvester's order. H H = n. Sums are those of kernels, in their order: channels 1 apart first, then 2, 4, ... apart.
    """
    size = rotation_size(x.shape[-1])
    shape, apart = x.shape, 1
    while apart < size:
        one, other = x.unflatten(-1, (-1, 2, apart)).unbind(-2)
        x = torch.stack([one + other, one - other], -2).view(shape)
        apart *= 2
    return x


class Precision(NamedTuple):
    """What the two products of attention take: the dtype of keys, and so of queries, and of values; None: 16 bits."""

    keys: torch.dtype | None
    values: torch.dtype | None


SIXTEEN_BIT = Precision(None, None)
PRECISIONS = {
    "16-bit": SIXTEEN_BIT,
    "int8": Precision(torch.int8, None),
    "fp8": Precision(torch.int8, torch.float8_e4m3fn),
}


def quantise_rows(x: torch.Tensor, dtype: torch.dtype = torch.int8) -> tuple[torch.Tensor, torch.Tensor]:
    """x [..., D] as codes of that dtype [..., D] and scale [...]: the largest of a row is 127 (e4m3: 448) scales.

    A row of zeros has scale 0.
    """
    scale = scale_of(x.abs().amax(-1), _largest_code(dtype))
    return _codes(x, scale[..., None], dtype), scale


def scale_of(largest: torch.Tensor, code: float) -> torch.Tensor:
    """largest / code. On CUDA torch multiplies by the inverse of a number, which at times is the next float32; by a
    tensor it divides, as it does on a CPU and as kernels do.
    """
    return largest / torch.full_like(largest, code)


def _largest_code(dtype: torch.dtype) -> float:
    return 127.0 if dtype == torch.int8 else E4M3_MAX


def _codes(x, scale, dtype) -> torch.Tensor:
    """x over scale as codes. Multiplied by the inverse, as kernels do: what lies in the middle of two codes (of int8
    half of the largest, of e4m3 three quarters) then gets the same one everywhere.
    """
    top = _largest_code(dtype)
    codes = torch.where(scale > 0, x * (1 / scale), 0)
    return (codes.round() if dtype == torch.int8 else codes).clamp(-top, top).to(dtype)


def quantise_keys(x: torch.Tensor, dtype: torch.dtype, rows: int = BLOCK_ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    """x [B, H, n, D] as codes of that dtype [B, H, n, D] and scale [B, H, ceil(n / rows)], one for so many rows."""
    number, head_dim = x.shape[2:]
    together = F.pad(x, (0, 0, 0, -number % rows)).unflatten(2, (-1, rows)).flatten(3)
    codes, scale = quantise_rows(together, dtype)
    return codes.unflatten(3, (rows, head_dim)).flatten(2, 3)[:, :, :number], scale


def scale_of_rows(scale: torch.Tensor, number: int) -> torch.Tensor:
    """The scale of every row, [B, H, number], of `quantise_keys`'s for 64 each."""
    return scale.repeat_interleave(BLOCK_ROWS, 2)[:, :, :number]


def rounded_queries(q: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """H q, q [..., D], after a way through `quantise_rows`."""
    codes, scale = quantise_rows(hadamard(q), dtype)
    return codes.to(q.dtype) * scale[..., None]


def unit_keys(device: torch.device) -> int:
    """Keys of a unit: as many as the kernel of e4m3 values that runs on that device multiplies at a time."""
    if device.type != "cuda":
        return 64
    capability = os.environ.get("JENGA_FORCE_SM") or "{}{}".format(*torch.cuda.get_device_capability(device))
    return 128 if capability == "90" else 64


def largest_of_units(logits: torch.Tensor, segments: Sequence[int]) -> torch.Tensor:
    """The largest of the unit of each of logits [..., M], [..., M]. Each of so many columns begins with a new unit."""
    size, tops = unit_keys(logits.device), []
    for part in logits.split(list(segments), -1):
        units = F.pad(part, (0, -part.shape[-1] % size), value=-torch.inf).unflatten(-1, (-1, size))
        tops.append(units.amax(-1).repeat_interleave(size, -1)[..., : part.shape[-1]])
    return torch.cat(tops, -1)


def rounded_weights(weights: torch.Tensor) -> torch.Tensor:
    """Weights, at most 1, as e4m3 / 448 of the code that is their rounded logarithm, 0 below all codes."""
    codes = (LARGEST_CODE + CODES_PER_POWER * weights.log2()).round().clamp_min(0)
    return codes.to(torch.uint8).view(torch.float8_e4m3fn).to(weights.dtype) / E4M3_MAX


def weights_in_units(logits: torch.Tensor, top: torch.Tensor, segments: Sequence[int]) -> torch.Tensor:
    """e^(logits - top), rounded as shares of the largest of their unit. logits [..., M], top [..., 1], finite."""
    of_unit = largest_of_units(logits, segments).clamp_min(torch.finfo(logits.dtype).min)
    return rounded_weights((logits - of_unit).exp_()) * (of_unit - top).exp_()


def quantise_blocks(
    blocks: PreparedBlocks, k_tail: torch.Tensor, v_tail: torch.Tensor, precision: Precision
) -> PreparedBlocks:
    """`blocks` with the keys and values that `precision` names in 8 bits. k_tail, v_tail [B, H, nc, D]: means before
    they were rounded. Rows that are no token, masked ones among them, have codes 0, and 64 such keys scale 0.
    """
    context_bias = blocks.filled_context_bias()
    num_video = blocks.k_carved.shape[2] - context_bias.shape[1]
    is_token = F.pad(context_bias > -torch.inf, (0, num_video), value=True)[:, None, :, None]

    def centred(carved, tail):
        x = carved.to(tail.dtype)
        center = x[:, :, context_bias.shape[1] :: CENTER_STEP].mean(2)
        away = center[:, :, None]
        return center, torch.where(is_token, x - away, 0), tail - away

    if precision.keys is not None:
        center, *rest = centred(blocks.k_carved, k_tail)
        rotated = (hadamard(x) / rotation_size(x.shape[3]) for x in rest)
        (carved, scale), (tail, tail_scale) = (quantise_keys(x, precision.keys) for x in rotated)
        blocks = blocks._replace(k_carved=carved, k_tail=tail, keys=EightBitKeys(scale, tail_scale, center))
    if precision.values is not None:
        center, carved, tail = centred(blocks.v_carved, v_tail)
        sampled = carved[:, :, context_bias.shape[1] :: CENTER_STEP]
        scale = scale_of(carved.abs().amax(2), E4M3_MAX).maximum(scale_of(sampled.abs().amax(2), SAMPLED_E4M3_MAX))
        carved, tail = (_codes(x, scale[:, :, None], precision.values) for x in (carved, tail))
        blocks = blocks._replace(v_carved=carved, v_tail=tail, values=EightBitValues(scale, center))
    return blocks


def in_rows(values: torch.Tensor, rows: int) -> torch.Tensor:
    """Codes of so many rows, [B, H, rows, D], of codes in blocks [B, H, blocks, D, 64]; of rows themselves."""
    if values.dim() == 4:
        return values
    batch, heads, blocks, dim, _ = values.shape
    sixteens = values.view(torch.uint8).reshape(batch, heads, blocks, dim, BLOCK_ROWS // 16, 16)
    place_of_row = torch.tensor(ROW_AT_PLACE, device=values.device).argsort()
    by_row = sixteens[..., place_of_row].flatten(4).transpose(3, 4).reshape(batch, heads, -1, dim)
    return by_row[:, :, :rows].contiguous().view(values.dtype)


def dequantise_blocks(blocks: PreparedBlocks, dtype: torch.dtype) -> PreparedBlocks:
    """`blocks` with codes times scale, [B, H, ..., D] of that dtype, in the place of codes: centers are missing, and
    keys are still rotated.
    """
    if blocks.keys is not None:
        carved, tail = (
            codes.to(dtype) * scale_of_rows(scale, codes.shape[2])[..., None].to(dtype)
            for codes, scale in ((blocks.k_carved, blocks.keys.scale), (blocks.k_tail, blocks.keys.tail_scale))
        )
        blocks = blocks._replace(k_carved=carved, k_tail=tail)
    if blocks.values is not None:
        scale = blocks.values.scale[:, :, None].to(dtype)
        carved, tail = (
            in_rows(values, keys.shape[2]).to(dtype) * scale
            for values, keys in ((blocks.v_carved, blocks.k_carved), (blocks.v_tail, blocks.k_tail))
        )
        blocks = blocks._replace(v_carved=carved, v_tail=tail)
    return blocks


def as_computed(q: torch.Tensor, blocks: PreparedBlocks, dtype: torch.dtype) -> tuple[torch.Tensor, PreparedBlocks]:
    """q and blocks as they are; where blocks are in 8 bits, as the numbers of that dtype that their codes stand for, q
    rotated as the keys are.
    """
    if blocks.keys is not None:
        q = rounded_queries(q.to(dtype), blocks.k_carved.dtype)
    elif blocks.values is not None:
        q = q.to(dtype)
    return q, dequantise_blocks(blocks, dtype)


def lost_logit(q: torch.Tensor, keys: EightBitKeys | None, softmax_scale: float) -> torch.Tensor | float:
    """[B, H, S]: what every logit of a row of q [B, H, S, D] lost with the center of the keys."""
    return 0.0 if keys is None else softmax_scale * (q @ keys.center.to(q.dtype)[..., None]).squeeze(-1)


def with_center(out: torch.Tensor, values: EightBitValues | None, lse: torch.Tensor) -> torch.Tensor:
    """out [B, H, n, D] with the center of the values, where a row attended anything by lse [B, H, n]."""
    if values is None:
        return out
    return out + torch.where(lse[..., None] > -torch.inf, values.center[:, :, None].to(out.dtype), 0)
