"""Every operator refuses bad input with `<op>: <argument> must <condition>, got <value>`, before a kernel runs."""

import math

import cases
import pytest
import torch

from jenga.carving import ops
from jenga.carving.operands import CarvedLayout

CASE = cases.Case("errors", grid=(2, 10, 10), batch=2, before=20)  # 200 video tokens: 4 key blocks, 2 query blocks
S, N, P = CASE.tokens, CASE.num_video, CASE.padded_context


@pytest.fixture(scope="module")
def good():
    """Correct arguments of every operator, by name."""
    inputs = cases.make_inputs(CASE, torch.float32)
    attention = ops.prepare_blocks(inputs.q, inputs.k, inputs.v, CarvedLayout(inputs.token_index, 20))
    lists = cases.select_lists(CASE, attention.q_means, attention.k_means, inputs.softmax_scale)
    bias = torch.cat([torch.zeros(2, 20), torch.full((2, P - 20), -math.inf)], dim=1)
    blocks = {"num_context": 20, "q_block_size": 128, "kv_block_size": 64}
    return {
        "curve_order": {"t": 2, "h": 3, "w": 4, "curve": "gilbert3d"},
        "block_adjacency": {"t": 2, "h": 3, "w": 4, "curve": "gilbert3d", "block_size": 8},
        "prepare_blocks": {
            **{"q": inputs.q, "k": inputs.k, "v": inputs.v, "token_index": inputs.token_index},
            **{"num_context": 20, "q_cell_size": 16, "k_cell_size": 8, "tail_block_size": 64},
            "context_bias": bias,
        },
        "select_blocks": {
            "q_means": attention.q_means,
            "k_means": attention.k_means,
            "adjacency": torch.ones(2, 4, dtype=torch.bool),
            **{"num_video": N, "q_block_size": 128, "kv_block_size": 64, "q_cells": 8, "k_cells": 8},
            "min_blocks": 2,
            "top_p": 0.0,
            "softmax_scale": 0.1,
        },
        "tail_bias": {
            **{"q_means": attention.q_means, "k_means": attention.k_means, "num_video": N},
            **{"k_cell_size": 8, "tail_block_size": 64, "softmax_scale": 0.1},
        },
        "block_sparse_attention": {
            **{"q": inputs.q, "k_carved": attention.k_carved, "v_carved": attention.v_carved},
            **{"kv_block_index": lists[0], "kv_block_count": lists[1], "token_index": inputs.token_index},
            **blocks,
            "softmax_scale": 0.1,
            "context_bias": bias,
            **{"k_tail": attention.k_tail, "v_tail": attention.v_tail, "tail_block_size": 64},
            "residual": torch.zeros(2, S, 2, 64, dtype=torch.int8),
            "residual_scale": torch.zeros(2, S, 2),
            "tail_bias": torch.zeros(2, 2, 4),
        },
        "pack_residual": {"dense": inputs.q, "carved": inputs.k, "bits": 8},
        "kept_share": {
            "kv_block_index": lists[0],
            "kv_block_count": lists[1],
            "num_video": N,
            "kv_block_size": 64,
        },
    }


def replaced(value):
    return lambda _: value


def changed(x, position, value):
    x = x.clone()
    x[position] = value
    return x


INT_MAX = 2**31 - 1
# operator, argument, what becomes of the good value, the message
BAD = [
    ("curve_order", "t", replaced(0), f"t, h, w must be positive and t * h * w at most {INT_MAX}, got 0, 3, 4"),
    ("curve_order", "w", replaced(2**62), f"t, h, w must be positive and t * h * w at most {INT_MAX}, got 2, 3, "),
    ("curve_order", "curve", replaced("hilbert"), "curve must be gilbert3d, gilbert2d_sliced or raster, got hilbert"),
    ("block_adjacency", "h", replaced(-3), f"t, h, w must be positive and t * h * w at most {INT_MAX}, got 2, -3, 4"),
    ("block_adjacency", "curve", replaced(""), "curve must be gilbert3d, gilbert2d_sliced or raster, got "),
    ("block_adjacency", "block_size", replaced(0), "block_size must be positive, got 0"),
    ("prepare_blocks", "q", lambda x: x[0], "q must have 4 dimensions [B, H, S, D], got shape [2, 220, 64]"),
    ("prepare_blocks", "q", lambda x: x[:0], "q must not be empty, got shape [0, 2, 220, 64]"),
    ("prepare_blocks", "q", lambda x: x.double(), "q must be bfloat16, float16 or float32, got float64"),
    ("prepare_blocks", "q", lambda x: x.long(), "q must be bfloat16, float16 or float32, got int64"),
    (
        "prepare_blocks",
        "q",
        lambda x: x[..., :60],
        "q must have a head dim that is a multiple of 8 from 8 to 256, got 60",
    ),
    (
        "prepare_blocks",
        "q",
        lambda x: x.repeat(1, 1, 1, 5),
        "q must have a head dim that is a multiple of 8 from 8 to 256, got 320",
    ),
    ("prepare_blocks", "k", lambda x: x.half(), "k must be float32, got float16"),
    ("prepare_blocks", "k", lambda x: x[:, :1], "k must have shape [2, 2, 220, 64], got [2, 1, 220, 64]"),
    ("prepare_blocks", "v", lambda x: x[:, :, :-1], "v must have shape [2, 2, 220, 64], got [2, 2, 219, 64]"),
    ("prepare_blocks", "token_index", lambda x: x.long(), "token_index must be int32, got int64"),
    ("prepare_blocks", "token_index", lambda x: x[1:], "token_index must have shape [220], got [219]"),
    (
        "prepare_blocks",
        "token_index",
        lambda x: changed(x, 7, -1),
        "token_index must be a permutation of 0 .. 219, got -1 at position 7",
    ),
    (
        "prepare_blocks",
        "token_index",
        lambda x: changed(x, 219, x[0]),
        "token_index must be a permutation of 0 .. 219, got 0 at position 219",
    ),
    (
        "prepare_blocks",
        "num_context",
        replaced(220),
        "num_context must be at least 0 and less than the 220 tokens of q, got 220",
    ),
    (
        "prepare_blocks",
        "num_context",
        replaced(-1),
        "num_context must be at least 0 and less than the 220 tokens of q, got -1",
    ),
    ("prepare_blocks", "q_cell_size", replaced(4), "q_cell_size must be 0, 8, 16, 32, 64 or 128, got 4"),
    ("prepare_blocks", "k_cell_size", replaced(24), "k_cell_size must be 0, 8, 16, 32, 64 or 128, got 24"),
    ("prepare_blocks", "tail_block_size", replaced(48), "tail_block_size must be 0, 32, 64 or 128, got 48"),
    (
        "select_blocks",
        "q_means",
        lambda x: x[0],
        "q_means must have 4 dimensions [B, H, nqc, D], got shape [2, 13, 64]",
    ),
    ("select_blocks", "q_means", lambda x: x[:, :, :0], "q_means must not be empty, got shape [2, 2, 0, 64]"),
    ("select_blocks", "q_means", lambda x: x[:, :, 1:], "q_means must have shape [2, 2, 13, 64], got [2, 2, 12, 64]"),
    ("select_blocks", "q_means", lambda x: x.double(), "q_means must be bfloat16, float16 or float32, got float64"),
    ("select_blocks", "k_means", lambda x: x.bfloat16(), "k_means must be float32, got bfloat16"),
    (
        "select_blocks",
        "k_means",
        lambda x: x[0],
        "k_means must have 4 dimensions [B, H, nkc, D], got shape [2, 25, 64]",
    ),
    ("select_blocks", "k_means", lambda x: x[:1], "k_means must have shape [2, 2, 25, 64], got [1, 2, 25, 64]"),
    ("select_blocks", "num_video", replaced(0), "num_video must be at least 1, got 0"),
    ("select_blocks", "q_block_size", replaced(32), "q_block_size must be 64 or 128, got 32"),
    ("select_blocks", "kv_block_size", replaced(32), "kv_block_size must be 64 or 128, got 32"),
    ("select_blocks", "q_cells", replaced(3), "q_cells must be 1, 2, 4 or 8, got 3"),
    ("select_blocks", "k_cells", replaced(16), "k_cells must be 1, 2, 4 or 8, got 16"),
    ("select_blocks", "adjacency", lambda x: x.int(), "adjacency must be bool, got int32"),
    ("select_blocks", "adjacency", lambda x: x.mT, "adjacency must have shape [2, 4], got [4, 2]"),
    ("select_blocks", "min_blocks", replaced(0), "min_blocks must be at least 1, got 0"),
    ("select_blocks", "top_p", replaced(1.5), "top_p must be from 0 to 1, got 1.5"),
    ("select_blocks", "top_p", replaced(math.nan), "top_p must be from 0 to 1, got nan"),
    ("tail_bias", "q_means", lambda x: x[0], "q_means must have 4 dimensions [B, H, nqc, D], got shape [2, 13, 64]"),
    ("tail_bias", "k_means", lambda x: x[0], "k_means must have 4 dimensions [B, H, nkc, D], got shape [2, 25, 64]"),
    ("tail_bias", "k_means", lambda x: x[:, :, 1:], "k_means must have shape [2, 2, 25, 64], got [2, 2, 24, 64]"),
    ("tail_bias", "k_means", lambda x: x.half(), "k_means must be float32, got float16"),
    ("tail_bias", "q_means", lambda x: x[:, :, :0], "q_means must not be empty, got shape [2, 2, 0, 64]"),
    ("tail_bias", "num_video", replaced(0), "num_video must be at least 1, got 0"),
    ("tail_bias", "k_cell_size", replaced(128), "k_cell_size must be 8, 16, 32 or 64, got 128"),
    (
        "tail_bias",
        "tail_block_size",
        replaced(8),
        "tail_block_size must be 2, 4 or 8 times k_cell_size (8), got 8; a tail cell that is one key cell counts as",
    ),
    ("tail_bias", "tail_block_size", replaced(128), "tail_block_size must be 2, 4 or 8 times k_cell_size (8), got 128"),
    ("tail_bias", "softmax_scale", replaced(0.0), "softmax_scale must be finite and positive, got 0"),
    ("block_sparse_attention", "tail_bias", lambda x: x[..., 1:], "tail_bias must have shape [2, 2, 4], got [2, 2, 3]"),
    ("block_sparse_attention", "tail_bias", lambda x: x.half(), "tail_bias must be float32, got float16"),
    ("select_blocks", "softmax_scale", replaced(math.inf), "softmax_scale must be finite and positive, got inf"),
    ("block_sparse_attention", "q", lambda x: x.mT, "q must have a head dim that is a multiple of 8 from 8 to 256"),
    (
        "block_sparse_attention",
        "k_carved",
        lambda x: x[:, :, 1:],
        f"k_carved must have shape [2, 2, {P + N}, 64], got [2, 2, {P + N - 1}, 64]",
    ),
    ("block_sparse_attention", "v_carved", lambda x: x.half(), "v_carved must be float32, got float16"),
    ("block_sparse_attention", "kv_block_index", lambda x: x.long(), "kv_block_index must be int32, got int64"),
    (
        "block_sparse_attention",
        "kv_block_index",
        lambda x: x[0],
        "kv_block_index must have 4 dimensions [B, H, nq, max_kv], got shape [2, 2, 2]",
    ),
    (
        "block_sparse_attention",
        "kv_block_index",
        lambda x: x.repeat(1, 1, 1, 3),
        "kv_block_index must list at most 4 key blocks, got 6",
    ),
    (
        "block_sparse_attention",
        "kv_block_index",
        lambda x: x[:, :, :1],
        "kv_block_index must have shape [2, 2, 2, 2], got [2, 2, 1, 2]",
    ),
    (
        "block_sparse_attention",
        "kv_block_index",
        lambda x: x + 4,
        "kv_block_index must be ascending within 0 .. 3, got ",
    ),
    (
        "block_sparse_attention",
        "kv_block_index",
        lambda x: x.flip(-1),
        "kv_block_index must be ascending within 0 .. 3, got ",
    ),
    (
        "block_sparse_attention",
        "kv_block_count",
        lambda x: x + 1,
        "kv_block_count must be from 0 to 2, got 3 in row 0",
    ),
    ("block_sparse_attention", "kv_block_count", lambda x: -x, "kv_block_count must be from 0 to 2, got -2 in row 0"),
    (
        "block_sparse_attention",
        "kv_block_count",
        lambda x: x[..., :1],
        "kv_block_count must have shape [2, 2, 2], got [2, 2, 1]",
    ),
    ("block_sparse_attention", "token_index", torch.zeros_like, "token_index must be a permutation of 0 .. 219, got 0"),
    ("block_sparse_attention", "q_block_size", replaced(100), "q_block_size must be 64 or 128, got 100"),
    ("block_sparse_attention", "kv_block_size", replaced(256), "kv_block_size must be 64 or 128, got 256"),
    ("block_sparse_attention", "softmax_scale", replaced(0.0), "softmax_scale must be finite and positive, got 0"),
    ("block_sparse_attention", "softmax_scale", replaced(math.nan), "softmax_scale must be finite and positive"),
    ("block_sparse_attention", "context_bias", lambda x: x.double(), "context_bias must be float32, got float64"),
    (
        "block_sparse_attention",
        "context_bias",
        lambda x: x[:, :20],
        "context_bias must have shape [2, 128], got [2, 20]",
    ),
    (
        "block_sparse_attention",
        "context_bias",
        lambda x: changed(x, (1, 3), math.nan),
        "context_bias must hold finite values or -inf, got nan in column 3",
    ),
    (
        "block_sparse_attention",
        "context_bias",
        torch.zeros_like,
        "context_bias must be -inf from column num_context (20) on, got 0 in column 20",
    ),
    ("block_sparse_attention", "k_tail", replaced(None), "k_tail and v_tail must come together, got only v_tail"),
    (
        "block_sparse_attention",
        "v_tail",
        lambda x: x[:, :, :1],
        "v_tail must have shape [2, 2, 4, 64], got [2, 2, 1, 64]",
    ),
    (
        "block_sparse_attention",
        "tail_block_size",
        replaced(32),
        "k_tail must have shape [2, 2, 7, 64], got [2, 2, 4, 64]",
    ),
    (
        "block_sparse_attention",
        "residual",
        lambda x: x.long(),
        "residual must be bfloat16, float16, float32, int8 or uint8 (two 4-bit codes), got int64",
    ),
    (
        "block_sparse_attention",
        "residual",
        lambda x: x.to(torch.uint8),
        f"residual must have shape [2, {S}, 2, 32], got [2, {S}, 2, 64]",
    ),
    (
        "block_sparse_attention",
        "residual",
        lambda x: x.float(),
        "residual_scale must not be given for a residual of float32, got one",
    ),
    (
        "block_sparse_attention",
        "residual",
        replaced(None),
        "residual_scale must come with a residual, got only residual_scale",
    ),
    (
        "block_sparse_attention",
        "residual_scale",
        replaced(None),
        "residual_scale must be given for a residual of int8, got none",
    ),
    ("block_sparse_attention", "residual_scale", lambda x: x.half(), "residual_scale must be float32, got float16"),
    ("pack_residual", "dense", lambda x: x.double(), "dense must be bfloat16, float16 or float32, got float64"),
    (
        "pack_residual",
        "carved",
        lambda x: x[:, :, 1:],
        f"carved must have shape [2, 2, {S}, 64], got [2, 2, {S - 1}, 64]",
    ),
    ("pack_residual", "bits", replaced(2), "bits must be 4 or 8, got 2"),
    ("kept_share", "kv_block_index", lambda x: x.long(), "kv_block_index must be int32, got int64"),
    (
        "kept_share",
        "kv_block_index",
        lambda x: x[0],
        "kv_block_index must have 4 dimensions [B, H, nq, max_kv], got shape [2, 2, 2]",
    ),
    ("kept_share", "kv_block_index", lambda x: x[:0], "kv_block_index must not be empty, got shape [0, 2, 2, 2]"),
    (
        "kept_share",
        "kv_block_index",
        lambda x: x.repeat(1, 1, 1, 3),
        "kv_block_index must list at most 4 key blocks, got 6",
    ),
    ("kept_share", "kv_block_index", lambda x: x.flip(-1), "kv_block_index must be ascending within 0 .. 3, got "),
    ("kept_share", "kv_block_count", lambda x: x.long(), "kv_block_count must be int32, got int64"),
    ("kept_share", "kv_block_count", lambda x: x[:1], "kv_block_count must have shape [2, 2, 2], got [1, 2, 2]"),
    ("kept_share", "kv_block_count", lambda x: x + 1, "kv_block_count must be from 0 to 2, got 3 in row 0"),
    ("kept_share", "num_video", replaced(0), "num_video must be at least 1, got 0"),
    ("kept_share", "num_video", replaced(300), "kv_block_index must have shape [2, 2, 3, 2], got [2, 2, 2, 2]"),
    ("kept_share", "kv_block_size", replaced(32), "kv_block_size must be 64 or 128, got 32"),
]

NEEDS_GRAD = [
    ("prepare_blocks", "q"),
    ("prepare_blocks", "k"),
    ("prepare_blocks", "v"),
    ("prepare_blocks", "context_bias"),
    ("select_blocks", "q_means"),
    ("select_blocks", "k_means"),
    ("tail_bias", "q_means"),
    ("tail_bias", "k_means"),
    ("block_sparse_attention", "tail_bias"),
    ("block_sparse_attention", "q"),
    ("block_sparse_attention", "k_carved"),
    ("block_sparse_attention", "v_carved"),
    ("block_sparse_attention", "context_bias"),
    ("block_sparse_attention", "k_tail"),
    ("block_sparse_attention", "v_tail"),
    ("block_sparse_attention", "residual_scale"),
    ("pack_residual", "dense"),
    ("pack_residual", "carved"),
]


def test_the_good_arguments_are_good(good):
    for name, arguments in good.items():
        assert getattr(torch.ops.jenga, name)(**arguments) is not None


@pytest.mark.parametrize(("op", "argument", "change", "message"), BAD, ids=[f"{op}-{arg}" for op, arg, _, _ in BAD])
def test_bad_input_has_a_clear_error(op, argument, change, message, good):
    arguments = dict(good[op])
    arguments[argument] = change(arguments[argument])
    with pytest.raises(RuntimeError) as error:
        getattr(torch.ops.jenga, op)(**arguments)
    assert str(error.value).startswith(f"{op}: {message}")
    assert "/" not in str(error.value), "a build path in the message"


@pytest.mark.parametrize(("op", "argument"), NEEDS_GRAD, ids=[f"{op}-{argument}" for op, argument in NEEDS_GRAD])
def test_there_is_no_backward(op, argument, good):
    arguments = dict(good[op])
    arguments[argument] = arguments[argument].clone().requires_grad_()
    message = f"{op}: {argument} must not require grad, got requires_grad=True; run under torch.no_grad()"
    with pytest.raises(RuntimeError) as error:
        getattr(torch.ops.jenga, op)(**arguments)
    assert str(error.value) == message
    with torch.no_grad():
        assert getattr(torch.ops.jenga, op)(**arguments) is not None
    with torch.inference_mode():
        assert getattr(torch.ops.jenga, op)(**arguments) is not None


def test_cuda_takes_16_bit_types_and_long_query_blocks(good):
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    arguments = {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in good["prepare_blocks"].items()}
    with pytest.raises(RuntimeError, match="q must be bfloat16 or float16 on CUDA, got float32"):
        torch.ops.jenga.prepare_blocks(**arguments)
    for name in ("q", "k", "v"):
        arguments[name] = arguments[name].half()
    selection = {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in good["select_blocks"].items()}
    with pytest.raises(RuntimeError, match="q_block_size must be 128, got 64"):
        torch.ops.jenga.select_blocks(**{**selection, "q_block_size": 64})
    with pytest.raises(RuntimeError, match=r"k must be on the device of q \(cuda:0\), got cpu"):
        torch.ops.jenga.prepare_blocks(**{**arguments, "k": arguments["k"].cpu()})
