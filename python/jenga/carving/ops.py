"""The compiled operators `torch.ops.jenga.*`: how they are loaded, their fakes, one typed function for each.

Importing this module never fails. Where a library is missing or does not load, `native_status()` says why and the
functions below raise; the pure-torch path (`jenga.carving.reference`) needs neither.

Symbols in the docstrings: B batch, H heads, S tokens, D head dim; C context tokens (attended by all, attending to
all: text, reference frames), N = S - C video tokens, P = C rounded up to 128, nq = ceil(N / q_block_size),
nkv = ceil(N / kv_block_size), nc = ceil(N / tail_block_size), nqc = ceil(N / q_cell_size),
nkc = ceil(N / k_cell_size). *Carved layout*: context first, padded to P rows, then the video in curve order. Every
operator raises RuntimeError with `<op>: <argument> must <condition>, got <value>`, and refuses tensors that require
grad while grad mode is on: there is no backward.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import driver
from .operands import BlockLists, CarvedLayout, EightBitKeys, EightBitValues, PreparedBlocks, Residual, ScoreCells
from .quantise import BLOCK_ROWS, PRECISIONS, SIXTEEN_BIT, Precision

CONTEXT_ALIGNMENT = 128
_LIBRARIES = Path(__file__).parent.parent / "lib"


@dataclass(frozen=True)
class NativeStatus:
    """Which compiled libraries are loaded; `reason` says why one is not, and is empty when nothing is missing."""

    cpu: bool
    cuda: bool
    reason: str


def native_status() -> NativeStatus:
    """Which of the two libraries this process has, and why not the others."""
    return _STATUS


def curve_order(t: int, h: int, w: int, curve: str = "gilbert3d") -> Tensor:
    """int32 `[t*h*w]` on the CPU: entry r is the raster index of the token at curve position r.

    `curve`: gilbert3d (ours and the paper's), gilbert2d_sliced (a 2-D curve per frame), raster.
    """
    return torch.ops.jenga.curve_order(t, h, w, curve)


def block_adjacency(t: int, h: int, w: int, curve: str = "gilbert3d", block_size: int = 128) -> Tensor:
    """bool `[nb, nb]` on the CPU, nb = ceil(t*h*w / block_size): whether two blocks have touching tokens."""
    return torch.ops.jenga.block_adjacency(t, h, w, curve, block_size)


def prepare_blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: CarvedLayout,
    context_bias: Tensor | None = None,
    precision: Precision = SIXTEEN_BIT,
) -> PreparedBlocks:
    """One pass over q, k, v: keys and values in carved layout and every mean that the next two operators need.

    q, k, v `[B, H, S, D]` in raster order, bfloat16, float16 or (CPU) float32, any strides with a contiguous last dim;
    D a multiple of 8, at most 256. layout: cells of 8, 16, 32, 64 or 128 tokens, tail_block_size 32, 64, 128, or 0;
    without query cells q is not read. context_bias: see `PreparedBlocks`; rows that it masks are written as zeros,
    whatever they hold, and from column C on it masks all. All outputs have the dtype of q, but for what precision has
    in 8 bits (`quantise.py`, CUDA): keys and their tail, D a multiple of 16; values and theirs, D = 128, in blocks.
    """
    sizes = (layout.q_cell_size, layout.k_cell_size, layout.tail_block_size)
    arguments = (q, k, v, layout.token_index, layout.num_context, *sizes, context_bias)
    if precision == SIXTEEN_BIT:
        return PreparedBlocks(*torch.ops.jenga.prepare_blocks(*arguments), layout, context_bias)
    if precision == PRECISIONS["int8"]:
        prepared = torch.ops.jenga.prepare_int8_blocks(*arguments)
        return PreparedBlocks(*prepared[:6], layout, context_bias, EightBitKeys(*prepared[6:]))
    if precision == PRECISIONS["fp8"]:
        prepared = torch.ops.jenga.prepare_fp8_blocks(*arguments)
        keys, values = EightBitKeys(*prepared[6:9]), EightBitValues(*prepared[9:])
        return PreparedBlocks(*prepared[:6], layout, context_bias, keys, values)
    known = ", ".join(PRECISIONS)
    raise ValueError(
        f"prepare_blocks: precision must be one of PRECISIONS ({known}), got {precision}; take the reference"
    )


def select_blocks(
    q_means: Tensor,
    k_means: Tensor,
    adjacency: Tensor | None,
    cells: ScoreCells,
    min_blocks: int,
    top_p: float,
    softmax_scale: float,
) -> BlockLists:
    """The key blocks that each query block keeps (paper section 3.1; the rule is in `kernels/params.h`).

    q_means `[B, H, nqc, D]`, k_means `[B, H, nkc, D]` of one dtype, as `prepare_blocks` makes them; adjacency bool
    `[nq, nkv]` (True: always kept), min_blocks >= 1, top_p in [0, 1]. Lists are as wide as nkv where top_p > 0 or
    adjacency is given, else as min(min_blocks, nkv).
    """
    lists = torch.ops.jenga.select_blocks(q_means, k_means, adjacency, *cells, min_blocks, top_p, softmax_scale)
    return BlockLists(*lists)


def tail_bias(
    q_means: Tensor, k_means: Tensor, num_video: int, k_cell_size: int, tail_block_size: int, softmax_scale: float
) -> Tensor:
    """fp32 `[B, H, nc]`: the logarithm of how many keys a dropped tail cell counts as (ours; `kernels/params.h`).

    q_means `[B, H, nqc, D]`, k_means `[B, H, nkc, D]` of one dtype, as `prepare_blocks` makes them; tail_block_size is
    2, 4 or 8 times k_cell_size, since a tail cell that is one key cell counts as its tokens.
    """
    return torch.ops.jenga.tail_bias(q_means, k_means, num_video, k_cell_size, tail_block_size, softmax_scale)


def block_sparse_attention(
    q: Tensor, blocks: PreparedBlocks, lists: BlockLists, softmax_scale: float, residual: Residual | None = None
) -> tuple[Tensor, Tensor]:
    """Attention over context, kept key blocks and, with tails, one compensation term per cell of every dropped block.

    q `[B, H, S, D]` in raster order. The finite part of blocks.context_bias acts on video rows only. residual is added
    to out.

    Returns out `[B, H, S, D]` in raster order, memory `[B, S, H, D]`, and lse float32 `[B, H, S]`, natural log, over
    everything that was attended, tail cells included. A row with nothing to attend: out 0, lse -inf.
    """
    token_index, num_context, q_block_size, kv_block_size, tail_block_size = blocks.layout[:5]
    return torch.ops.jenga.block_sparse_attention(
        *(q, blocks.k_carved, blocks.v_carved, *lists, token_index, num_context, q_block_size, kv_block_size),
        *(softmax_scale, blocks.context_bias, *blocks.tail(), tail_block_size, *(residual or (None, None))),
        *(blocks.keys or (None, None, None)),
        *(blocks.values or (None, None)),
        blocks.tail_bias,
    )


def pack_residual(dense: Tensor, carved: Tensor, bits: int) -> Residual:
    """dense - carved, `[B, H, S, D]` each, quantised with one scale per token and head (ours: anchored carving).

    bits 8: codes int8 `[B, S, H, D]`; 4: uint8 `[B, S, H, D/2]`, the even channel in the low nibble.
    """
    return Residual(*torch.ops.jenga.pack_residual(dense, carved, bits))


def kept_share(lists: BlockLists, num_video: int, kv_block_size: int) -> Tensor:
    """float32 scalar on the device of lists: of all B * H * N * N pairs of a video query row and a video key the share
    that they keep. Query blocks of 128 rows, kv_block_size 64 or 128; ragged last blocks count the tokens they have.
    """
    return torch.ops.jenga.kept_share(*lists, num_video, kv_block_size)


def cpu_isa() -> str:
    """The CPU tier that runs: generic, avx2, avx512 or avx512_bf16. JENGA_FORCE_ISA forces one."""
    return torch.ops.jenga.cpu_isa()


def _ceil_div(a: int, b: int) -> int:
    return (a + b - 1) // b


def _fake_curve_order(t, h, w, curve):
    return torch.empty(t * h * w, dtype=torch.int32)


def _fake_block_adjacency(t, h, w, curve, block_size):
    blocks = _ceil_div(t * h * w, block_size)
    return torch.empty(blocks, blocks, dtype=torch.bool)


def _fake_prepare_blocks(q, k, v, token_index, num_context, q_cell_size, k_cell_size, tail_block_size, *_):
    batch, heads, tokens, head_dim = q.shape
    video = tokens - num_context
    carved = _ceil_div(num_context, CONTEXT_ALIGNMENT) * CONTEXT_ALIGNMENT + video

    def cells(size):
        return _ceil_div(video, size) if size else 0

    rows = (carved, carved, cells(q_cell_size), cells(k_cell_size), cells(tail_block_size), cells(tail_block_size))
    return tuple(q.new_empty(batch, heads, number, head_dim) for number in rows)


def _fake_prepare_int8_blocks(q, *arguments):
    k_carved, v_carved, q_means, k_means, k_tail, v_tail = _fake_prepare_blocks(q, *arguments)
    numbers = (_ceil_div(x.shape[2], BLOCK_ROWS) for x in (k_carved, k_tail))
    scales = (q.new_empty(*q.shape[:2], number, dtype=torch.float32) for number in numbers)
    center = q.new_empty(*q.shape[:2], q.shape[3], dtype=torch.float32)
    return k_carved.to(torch.int8), v_carved, q_means, k_means, k_tail.to(torch.int8), v_tail, *scales, center


def _fake_prepare_fp8_blocks(q, *arguments):
    k_carved, v_carved, q_means, k_means, k_tail, v_tail, *scales = _fake_prepare_int8_blocks(q, *arguments)
    batch, heads, _, head_dim = q.shape

    def in_blocks(rows):
        blocks = _ceil_div(rows.shape[2], BLOCK_ROWS)
        return q.new_empty(batch, heads, blocks, head_dim, BLOCK_ROWS, dtype=torch.float8_e4m3fn)

    channels = (q.new_empty(batch, heads, head_dim, dtype=torch.float32) for _ in range(2))
    return k_carved, in_blocks(v_carved), q_means, k_means, k_tail, in_blocks(v_tail), *scales, *channels


def _fake_select_blocks(q_means, k_means, adjacency, num_video, q_block_size, kv_block_size, *rule):
    min_blocks, top_p = rule[2:4]  # behind q_cells, k_cells
    batch, heads = q_means.shape[:2]
    num_q, num_kv = _ceil_div(num_video, q_block_size), _ceil_div(num_video, kv_block_size)
    max_kv = num_kv if top_p > 0 or adjacency is not None else torch.sym_min(min_blocks, num_kv)
    index = q_means.new_empty(batch, heads, num_q, max_kv, dtype=torch.int32)
    return index, q_means.new_empty(batch, heads, num_q, dtype=torch.int32)


def _fake_tail_bias(q_means, k_means, num_video, k_cell_size, tail_block_size, softmax_scale):
    cells = _ceil_div(num_video, tail_block_size)
    return q_means.new_empty(*q_means.shape[:2], cells, dtype=torch.float32)


def _fake_block_sparse_attention(q, *_):
    batch, heads, tokens, head_dim = q.shape
    out = q.new_empty(batch, tokens, heads, head_dim).transpose(1, 2)
    return out, q.new_empty(batch, heads, tokens, dtype=torch.float32)


def _fake_pack_residual(dense, carved, bits):
    batch, heads, tokens, head_dim = dense.shape
    width, dtype = (head_dim // 2, torch.uint8) if bits == 4 else (head_dim, torch.int8)
    packed = dense.new_empty(batch, tokens, heads, width, dtype=dtype)
    return packed, dense.new_empty(batch, tokens, heads, dtype=torch.float32)


def _fake_kept_share(kv_block_index, *_):
    return kv_block_index.new_empty((), dtype=torch.float32)


_FAKES = (
    _fake_curve_order,
    _fake_block_adjacency,
    _fake_prepare_blocks,
    _fake_prepare_int8_blocks,
    _fake_prepare_fp8_blocks,
    _fake_select_blocks,
    _fake_tail_bias,
    _fake_block_sparse_attention,
    _fake_pack_residual,
    _fake_kept_share,
)


def _register_fake(fake) -> None:
    """Under torch.compile the kernels never see who needs grad, so fakes say it as the kernels do."""
    name = fake.__name__.removeprefix("_fake_")
    arguments = [argument.name for argument in getattr(torch.ops.jenga, name).default._schema.arguments]

    def checked(*args):
        for argument, value in zip(arguments, args, strict=False):
            if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
                rule = f"{name}: {argument} must not require grad, got requires_grad=True"
                raise RuntimeError(f"{rule}; run under torch.no_grad()")
        return fake(*args)

    torch.library.register_fake("jenga::" + name, checked, allow_override=True)


def _load_library(name: str) -> str:
    """Loads one library; the reason where that fails, else an empty string."""
    name += ".dll" if sys.platform == "win32" else ".so"
    path = _LIBRARIES / name
    if not path.is_file():
        remedy = "`pip install .` builds it"
        if "cuda" in name:
            remedy = f"a released wheel has it, and {remedy} where nvcc is"
        return f"{name} is not installed beside jenga ({_LIBRARIES} has none); {remedy}"
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return f"{name} does not load under torch {torch.__version__}: {str(error).splitlines()[0]}"
    return ""


def _load() -> NativeStatus:
    """Both libraries, unless the process has them already (a build folder loaded them before this module)."""
    if torch.torch_version.TorchVersion(torch.__version__) < (2, 10):
        return NativeStatus(False, False, f"torch must be 2.10 or newer, got {torch.__version__}")
    reason = "" if hasattr(torch.ops.jenga, "cpu_isa") else _load_library("libjenga_cpu")
    if reason:
        return NativeStatus(False, False, reason)
    for fake in _FAKES:
        _register_fake(fake)
    if torch.version.cuda is None:
        return NativeStatus(True, False, f"torch {torch.__version__} is built without CUDA")
    if not torch._C._dispatch_has_kernel_for_dispatch_key("jenga::prepare_blocks", "CUDA"):
        reason = driver.refusal(_LIBRARIES / "libjenga_cuda.toolkit") or _load_library("libjenga_cuda")
    return NativeStatus(True, not reason, reason)


_STATUS = _load()
