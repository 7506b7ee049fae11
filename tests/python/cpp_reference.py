"""kernels/reference from Python: the structs of `kernels/params.h` in ctypes, over contiguous tensors of the CPU."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jenga.carving.operands import BlockLists, CarvedLayout, EightBitKeys, EightBitValues, PreparedBlocks
from jenga.carving.quantise import Precision

_I64, _I32, _F32, _POINTER = ctypes.c_int64, ctypes.c_int32, ctypes.c_float, ctypes.c_void_p
_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.float8_e4m3fn)  # DataType


class _Strides(ctypes.Structure):
    _fields_ = [("batch", _I64), ("head", _I64), ("token", _I64)]


class _Operand(ctypes.Structure):
    _fields_ = [("data", _POINTER), ("strides", _Strides), ("dtype", _I32), ("scale", _POINTER)]


class _Output(ctypes.Structure):
    _fields_ = [("data", _POINTER), ("strides", _Strides), ("dtype", _I32)]


def _fields(kind, *names: str) -> list[tuple]:
    return [(name, kind) for name in names]


class _PrepareBlocks(ctypes.Structure):
    _fields_ = [
        *_fields(_Operand, "q", "k", "v"),
        *_fields(_POINTER, "token_index", "context_bias", "k_carved", "v_carved", "q_means", "k_means"),
        *_fields(_POINTER, "k_tail", "v_tail", "k_scale", "k_tail_scale", "k_center", "v_scale", "v_center"),
        *_fields(_I64, "batch", "heads", "head_dim", "num_context", "num_video"),
        *_fields(_I64, "q_cell_size", "k_cell_size", "tail_block_size"),
    ]


class _BlockSparseAttention(ctypes.Structure):
    _fields_ = [
        *_fields(_Operand, "q", "k_carved", "v_carved", "k_tail", "v_tail"),
        *_fields(_POINTER, "kv_block_index", "kv_block_count", "token_index", "context_bias"),
        *_fields(_POINTER, "residual", "residual_scale"),
        *_fields(_I32, "residual_type"),
        *_fields(_Output, "out"),
        *_fields(_POINTER, "lse"),
        *_fields(_I64, "batch", "heads", "head_dim", "num_context", "num_video", "max_kv"),
        *_fields(_I64, "q_block_size", "kv_block_size", "tail_block_size"),
        *_fields(_F32, "softmax_scale"),
        *_fields(_POINTER, "k_center", "v_center", "tail_bias"),
    ]


def library() -> ctypes.CDLL:
    """The library that tests/cpp/kernels builds; skips the test where JENGA_CORE_DIR does not say where it is."""
    path = Path(os.environ.get("JENGA_CORE_DIR", "")) / "libjenga_reference_calls.so"
    if not path.is_file():
        pytest.skip("JENGA_CORE_DIR must name the folder of libjenga_reference_calls.so (tests built)")
    found = ctypes.CDLL(str(path.resolve()))
    assert found.jenga_size_of_prepare_blocks() == ctypes.sizeof(_PrepareBlocks)
    assert found.jenga_size_of_block_sparse_attention() == ctypes.sizeof(_BlockSparseAttention)
    return found


def _address(x: Tensor | None) -> int | None:
    return None if x is None or not x.numel() else x.data_ptr()


def _operand(x: Tensor, scale: Tensor | None = None) -> _Operand:
    strides = _Strides(*x.stride()[:3])
    return _Operand(_address(x), strides, _TYPES.index(x.dtype), _address(scale))


def prepare_blocks(q: Tensor, k: Tensor, v: Tensor, layout: CarvedLayout, context_bias, precision: Precision):
    """As `jenga.carving.reference.prepare_blocks`."""
    calls = library()
    batch, heads, tokens, dim = q.shape
    video = tokens - layout.num_context
    rows = tokens + -layout.num_context % 128
    of = lambda size: -(-video // size) if size else 0  # noqa: E731
    new = lambda number, dtype=q.dtype: torch.empty(batch, heads, number, dim, dtype=dtype)  # noqa: E731
    fp32 = lambda *sizes: torch.empty(batch, heads, *sizes)  # noqa: E731
    k_type, v_type = (dtype or q.dtype for dtype in precision)
    cells = of(layout.tail_block_size)
    blocks = PreparedBlocks(
        *(new(rows, k_type), new(rows, v_type), new(of(layout.q_cell_size)), new(of(layout.k_cell_size))),
        *(new(cells, k_type), new(cells, v_type), layout, context_bias),
        keys=EightBitKeys(fp32(-(-rows // 64)), fp32(-(-cells // 64)), fp32(dim)) if precision.keys else None,
        values=EightBitValues(fp32(dim), fp32(dim)) if precision.values else None,
    )
    scales = (*(blocks.keys or (None,) * 3), *(blocks.values or (None,) * 2))
    calls.jenga_prepare_blocks(
        ctypes.byref(
            _PrepareBlocks(
                *map(_operand, (q, k, v)),
                *map(_address, (layout.token_index, context_bias, *blocks[:6], *scales)),
                *(batch, heads, dim, layout.num_context, video),
                *(layout.q_cell_size, layout.k_cell_size, layout.tail_block_size),
            )
        )
    )
    return blocks


def block_sparse_attention(q: Tensor, blocks: PreparedBlocks, lists: BlockLists, softmax_scale: float):
    """As `jenga.carving.reference.block_sparse_attention`, without a residual; out is fp32."""
    calls = library()
    batch, heads, tokens, dim = q.shape
    layout, keys, values = blocks.layout, blocks.keys, blocks.values
    out, lse = torch.empty(batch, heads, tokens, dim), torch.empty(batch, heads, tokens)
    k_scales = (None, None) if keys is None else keys[:2]
    v_scale = None if values is None else values.scale
    operands = [
        _operand(q),
        *(_operand(blocks.k_carved, k_scales[0]), _operand(blocks.v_carved, v_scale)),
        *(_operand(blocks.k_tail, k_scales[1]), _operand(blocks.v_tail, v_scale)),
    ]
    calls.jenga_block_sparse_attention(
        ctypes.byref(
            _BlockSparseAttention(
                *operands,
                *map(_address, (lists.index, lists.count, layout.token_index, blocks.context_bias)),
                *(None, None, 0),
                _Output(out.data_ptr(), _Strides(*out.stride()[:3]), 0),
                lse.data_ptr(),
                *(batch, heads, dim, layout.num_context, tokens - layout.num_context, lists.index.shape[3]),
                *(layout.q_block_size, layout.kv_block_size, layout.tail_block_size, softmax_scale),
                *map(_address, (keys and keys.center, values and values.center, blocks.tail_bias)),
            )
        )
    )
    return out, lse
