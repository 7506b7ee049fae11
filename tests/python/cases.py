"""The one case list of the carving operators: every backend and tier runs it, and the benchmarks time from it.

A case is data. `make_inputs(case, dtype, device)` draws its tensors from a fixed seed; `select_lists` gives its block
lists. Names as in `kernels/params.h`: C = before + after context tokens, N = t*h*w video tokens.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from jenga.carving import ops
from jenga.carving.operands import BlockLists, CarvedLayout, PreparedBlocks, Residual, ScoreCells

CONTEXT_ALIGNMENT = 128


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    grid: tuple[int, int, int] = (5, 9, 13)  # 585 tokens: ragged for every block size
    batch: int = 1
    heads: int = 2
    head_dim: int = 64
    before: int = 0  # context tokens in front of the video, in raster order
    after: int = 0  # and behind it
    masked: int = 0  # so many of the last context columns are never attended
    masked_nan: bool = False  # keys and values of masked columns hold NaN
    text_logit_bias: float = 0.0  # on the columns of `before`
    q_block_size: int = 128
    kv_block_size: int = 64
    tail_block_size: int = 64
    q_cells: int = 8
    k_cells: int = 8
    tail_bias: bool = False  # tail cells count as more or less than their tokens, drawn
    lists: str = "selected"  # selected | random | empty | full
    density: float = 0.3
    layout: str = "bhsd"  # bhsd | bshd | packed | unaligned | offset | expanded
    residual: str = "none"  # none | float | int8 | int4
    structured: bool = False  # smooth fields over the grid instead of independent noise
    logit_std: float = 1.5  # of softmax_scale * q k

    @property
    def num_video(self) -> int:
        return math.prod(self.grid)

    @property
    def num_context(self) -> int:
        return self.before + self.after

    @property
    def tokens(self) -> int:
        return self.num_video + self.num_context

    @property
    def padded_context(self) -> int:
        return -(-self.num_context // CONTEXT_ALIGNMENT) * CONTEXT_ALIGNMENT

    @property
    def score_sizes(self) -> ScoreCells:
        return ScoreCells(self.num_video, self.q_block_size, self.kv_block_size, self.q_cells, self.k_cells)

    def blocks(self, block_size: int) -> int:
        return -(-self.num_video // block_size)

    def cuda_reason(self, dtype: torch.dtype) -> str:
        """Why the CUDA kernels do not take this case; empty where they do."""
        if dtype == torch.float32:
            return "CUDA kernels take bfloat16 and float16"
        return "" if self.q_block_size == 128 else "CUDA query blocks have 128 rows"


CASES = (
    Case("ragged"),
    Case("one block", grid=(1, 5, 7)),
    Case("whole blocks", grid=(4, 8, 16)),
    Case("context before", before=37),
    Case("context after", after=130),
    Case("context both sides", before=20, after=70),
    Case("context fills its padding", before=128),
    Case("text bias", before=33, text_logit_bias=0.7),
    Case("masked context", before=25, after=40, masked=29),
    Case("all context masked", before=16, masked=16, text_logit_bias=0.5),
    Case("masked context holds NaN", before=25, after=40, masked=29, masked_nan=True, batch=2),
    Case("batch 3", batch=3, heads=1, before=9, masked=4),
    Case("token-major strides", layout="bshd", before=12),
    Case("one packed qkv", layout="packed", after=5),
    Case("unaligned storage", layout="unaligned", before=11),
    Case("contiguous, off alignment", layout="offset", before=11, residual="float"),
    Case("expanded heads", layout="expanded"),
    Case("head dim 8", head_dim=8, before=3),
    Case("head dim 40", head_dim=40),
    Case("head dim 96", head_dim=96, before=10),
    Case("head dim 128", head_dim=128, before=40, text_logit_bias=-0.3),
    Case("head dim 256", head_dim=256, heads=1, before=6),
    Case("tail 32", tail_block_size=32, before=10),
    Case("no tail", tail_block_size=0, before=10),
    Case("key block 128, tail 128", kv_block_size=128, tail_block_size=128),
    Case("key block 128, tail 64", kv_block_size=128, tail_block_size=64, before=20),
    Case("key block 128, tail 32", kv_block_size=128, tail_block_size=32, head_dim=128),
    Case("key block 128, no tail", kv_block_size=128, tail_block_size=0),
    Case("query block 64", q_block_size=64, before=20),
    Case("one cell a block", q_cells=1, k_cells=1, before=10),
    Case("cells 4 and 2, key block 128", q_cells=4, k_cells=2, kv_block_size=128, tail_block_size=32),
    Case("tail bias", tail_bias=True, before=20, batch=2),
    Case("tail bias 32, key block 128", tail_bias=True, kv_block_size=128, tail_block_size=32, head_dim=128, after=9),
    Case("tail bias, empty lists", tail_bias=True, lists="empty", head_dim=128, grid=(6, 12, 16)),
    Case("random lists", lists="random", before=20),
    Case("random lists, no tail", lists="random", tail_block_size=0),
    Case("empty lists", lists="empty", before=20),
    Case("empty lists, no context", lists="empty", tail_block_size=0),
    Case("empty lists, tail alone", lists="empty", tail_block_size=32),
    Case("full lists", lists="full", before=20, text_logit_bias=0.4),
    Case("residual", residual="float", before=20),
    Case("residual int8", residual="int8", before=20, batch=2),
    Case("residual int4", residual="int4", after=20, head_dim=128),
    Case("peaked", logit_std=12.0, before=20),
    Case("smooth fields", structured=True, grid=(6, 12, 16), before=20, density=0.2),
)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The tensors of a case. q, k, v [B, H, S, D] in raster order."""

    q: Tensor
    k: Tensor
    v: Tensor
    token_index: Tensor  # int32 [S]
    context_bias: Tensor | None  # float32 [B, P]
    softmax_scale: float
    residual: Residual | None


def token_index(case: Case, curve: str = "gilbert3d") -> Tensor:
    """Context rows first, then the video rows in curve order."""
    video = ops.curve_order(*case.grid, curve) + case.before
    raster = torch.arange(case.tokens, dtype=torch.int32)
    return torch.cat([raster[: case.before], raster[case.before + case.num_video :], video])


def layout(case: Case, index: Tensor) -> CarvedLayout:
    sizes = (case.q_block_size, case.kv_block_size, case.tail_block_size, case.q_cells, case.k_cells)
    return CarvedLayout(index, case.num_context, *sizes)


def on_device(x, device):
    """A tensor, or a tuple of tensors (in tuples) and what is not a tensor, on a device."""
    if isinstance(x, Tensor):
        return x.to(device)
    if not isinstance(x, tuple):
        return x
    parts = [on_device(part, device) for part in x]
    return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)


def make_inputs(case: Case, dtype: torch.dtype, device: str = "cpu", seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    # <q, k> of independent normal vectors has standard deviation sqrt(D)
    softmax_scale = case.logit_std / math.sqrt(case.head_dim)
    q, k, v = (x.to(device) for x in _draw_qkv(case, dtype, generator))
    bias = _context_bias(case)
    if case.masked_nan:
        columns = token_index(case)[: case.num_context].long()
        for row in range(case.batch):
            masked = columns[bias[row, : case.num_context] == -math.inf].to(device)
            k[row, :, masked] = v[row, :, masked] = math.nan
    residual = on_device(_draw_residual(case, dtype, generator), device)
    layouts = {"bshd": _token_major, "packed": _token_major, "unaligned": _unaligned, "offset": _offset}
    if case.layout == "packed":
        q, k, v = torch.stack([x.transpose(1, 2) for x in (q, k, v)], dim=2).transpose(1, 3).unbind(2)
    elif case.layout == "expanded":
        q, k, v = (x[:, :1].expand(-1, case.heads, -1, -1) for x in (q, k, v))
    elif case.layout in layouts:
        q, k, v = (layouts[case.layout](x) for x in (q, k, v))
    return Inputs(q, k, v, token_index(case).to(device), on_device(bias, device), softmax_scale, residual)


def _draw_qkv(case: Case, dtype: torch.dtype, generator: torch.Generator) -> list[Tensor]:
    shape = (case.batch, case.heads, case.tokens, case.head_dim)
    drawn = [torch.randn(shape, generator=generator) for _ in range(3)]
    if case.structured:
        # queries and keys share a low-frequency field, so that near tokens attend to each other
        coarse = [max(2, size // 3) for size in case.grid]
        field = torch.randn(case.batch * case.heads, case.head_dim, *coarse, generator=generator)
        field = torch.nn.functional.interpolate(field, size=case.grid, mode="trilinear")
        smooth = 1.5 * field.flatten(2).transpose(1, 2).unflatten(0, (case.batch, case.heads))
        for x in drawn:
            video = x[:, :, case.before : case.before + case.num_video]
            video.mul_(0.5).add_(smooth)
    return [x.to(dtype) for x in drawn]


def _context_bias(case: Case) -> Tensor | None:
    if not case.masked and not case.text_logit_bias:
        return None
    bias = torch.full((case.batch, case.padded_context), -math.inf)
    for row in range(case.batch):  # every batch row masks one column more
        open_columns = max(case.num_context - case.masked - row * bool(case.masked), 0)
        bias[row, :open_columns] = 0.0
        bias[row, : min(case.before, open_columns)] = case.text_logit_bias
    return bias


def _draw_residual(case: Case, dtype: torch.dtype, generator: torch.Generator) -> Residual | None:
    shape = (case.batch, case.tokens, case.heads, case.head_dim)
    if case.residual == "none":
        return None
    if case.residual == "float":
        return Residual(torch.randn(shape, generator=generator).to(dtype), None)
    scale = torch.rand(shape[:3], generator=generator) / 50
    if case.residual == "int8":
        return Residual(torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8), scale)
    packed = torch.randint(0, 256, (*shape[:3], case.head_dim // 2), generator=generator, dtype=torch.uint8)
    return Residual(packed, scale)


def _token_major(x: Tensor) -> Tensor:
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def _unaligned(x: Tensor) -> Tensor:
    """The same values one element into a storage, with rows of D + 3 elements: no row starts on 16 bytes."""
    wide = x.new_empty(*x.shape[:3], x.shape[3] + 3)
    view = wide[..., 1:-2]
    view.copy_(x)
    return view


def _offset(x: Tensor) -> Tensor:
    """The same values, contiguous, one element into a storage: rows of 16-byte multiples, none of which is aligned."""
    view = x.new_empty(x.numel() + 1)[1:].view(x.shape)
    return view.copy_(x)


def select_lists(case: Case, q_means: Tensor, k_means: Tensor, softmax_scale: float, seed: int = 1) -> BlockLists:
    """The block lists of a case, on the device of the means."""
    num_q, num_kv = case.blocks(case.q_block_size), case.blocks(case.kv_block_size)
    if case.lists == "selected":
        min_blocks = max(1, math.ceil(case.density * num_kv))
        return ops.select_blocks(q_means, k_means, None, case.score_sizes, min_blocks, 0.0, softmax_scale)
    batch, heads = q_means.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    if case.lists == "full":
        counts = torch.full((batch, heads, num_q), num_kv)
    elif case.lists == "empty":
        counts = torch.zeros(batch, heads, num_q, dtype=torch.int64)
    else:
        counts = torch.randint(0, num_kv + 1, (batch, heads, num_q), generator=generator)
    order = torch.rand(batch, heads, num_q, num_kv, generator=generator).argsort(-1)
    listed = torch.arange(num_kv) < counts[..., None]
    index = torch.where(listed, order, num_kv).sort(-1).values
    index = torch.where(listed, index, -1).to(torch.int32)
    return BlockLists(index.to(q_means.device), counts.to(torch.int32).to(q_means.device))


def prepare(case: Case, inputs: Inputs) -> PreparedBlocks:
    sizes = layout(case, inputs.token_index)
    return weighed(case, ops.prepare_blocks(inputs.q, inputs.k, inputs.v, sizes, inputs.context_bias))


def weighed(case: Case, blocks: PreparedBlocks, seed: int = 2) -> PreparedBlocks:
    """With the tail_bias of a case."""
    if not case.tail_bias:
        return blocks
    generator = torch.Generator().manual_seed(seed)
    drawn = 2 + 4 * torch.rand(case.batch, case.heads, case.blocks(case.tail_block_size), generator=generator)
    return blocks._replace(tail_bias=drawn.to(blocks.k_tail.device))


@dataclasses.dataclass(frozen=True)
class Run:
    """What the three operators returned for a case."""

    blocks: PreparedBlocks
    lists: BlockLists
    out: Tensor
    lse: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.blocks[:6], *self.lists, self.out, self.lse)


def run(case: Case, inputs: Inputs, lists: BlockLists | None = None) -> Run:
    """prepare_blocks, the lists, block_sparse_attention."""
    blocks = prepare(case, inputs)
    if lists is None:
        lists = select_lists(case, blocks.q_means, blocks.k_means, inputs.softmax_scale)
    return Run(
        blocks, lists, *ops.block_sparse_attention(inputs.q, blocks, lists, inputs.softmax_scale, inputs.residual)
    )
