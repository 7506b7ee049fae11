"""The operators with int8 keys and e4m3 values: every case of head dim 128 against the reference. GPUs of compute
capability 8.9, 9.0 and 12.x have them, a Hopper both kinds; the order of values in blocks and what a CPU says of them
need no GPU.
"""

import dataclasses
import math

import cases
import pytest
import torch
from oracles import relative_error

from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving import ops, reference, self_test
from jenga.carving.dispatch import PrecisionUnavailable
from jenga.carving.quantise import PRECISIONS, ROW_AT_PLACE, SIXTEEN_BIT, in_rows

FP8 = PRECISIONS["fp8"]
DTYPES = (torch.bfloat16, torch.float16)
CASES = [dataclasses.replace(case, head_dim=128) for case in cases.CASES if case.q_block_size == 128]


@pytest.fixture
def card(cuda, kernel) -> str:
    """A GPU with kernels for e4m3 values."""
    capability = torch.cuda.get_device_capability()
    if capability not in ((8, 9), (9, 0)) and capability[0] != 12:
        pytest.skip(f"e4m3 values have kernels for compute capabilities 8.9, 9.0 and 12, this GPU has {capability}")
    return cuda


def prepare(module, case, inputs, precision=FP8):
    layout = cases.layout(case, inputs.token_index)
    return cases.weighed(
        case, module.prepare_blocks(inputs.q, inputs.k, inputs.v, layout, inputs.context_bias, precision)
    )


def in_blocks(rows: torch.Tensor) -> torch.Tensor:
    """[B, H, n, D] as blocks, row by row as `kernels/value_blocks.h` says it."""
    batch, heads, number, dim = rows.shape
    blocks = torch.zeros(batch, heads, -(-number // 64), dim, 64, dtype=torch.uint8)
    for row in range(number):
        key = row % 16
        place = 4 * (key % 8 // 2) + key % 2 + (0 if key < 8 else 2)
        blocks[:, :, row // 64, :, row % 64 // 16 * 16 + place] = rows[:, :, row].view(torch.uint8)
    return blocks.view(rows.dtype)


@pytest.mark.parametrize("rows", [0, 1, 64, 77, 200])
def test_blocks_hold_the_rows(rows):
    values = torch.randn(2, 3, rows, 8).to(torch.float8_e4m3fn)
    assert torch.equal(in_rows(in_blocks(values), rows).float(), values.float())
    assert in_rows(values, rows) is values
    assert sorted(ROW_AT_PLACE) == list(range(16))


def test_the_reference_takes_blocks_as_it_takes_rows():
    case = cases.Case("blocks", before=20, tail_block_size=32, head_dim=16)
    inputs = cases.make_inputs(case, torch.bfloat16)
    rows = prepare(reference, case, inputs)
    blocks = rows._replace(v_carved=in_blocks(rows.v_carved), v_tail=in_blocks(rows.v_tail))
    lists = cases.select_lists(case, rows.q_means, rows.k_means, inputs.softmax_scale)
    results = [reference.block_sparse_attention(inputs.q, x, lists, inputs.softmax_scale) for x in (rows, blocks)]
    assert all(map(torch.equal, *results))


def near_codes(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Within a step of e4m3, and few moved at all."""
    one, other = found.float(), wanted.float()
    step = torch.maximum(other.abs() / 8, torch.tensor(2**-9, device=other.device))
    return not other.numel() or (((one - other).abs() <= step).all() and (one != other).double().mean() < 0.02).item()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case, dtype, card, poisoned_outputs):
    inputs = cases.make_inputs(case, dtype, card)
    found, wanted = prepare(ops, case, inputs), prepare(reference, case, inputs)
    for one, other in zip((*found.keys, *found.values), (*wanted.keys, *wanted.values), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    for keys, values in (("k_carved", "v_carved"), ("k_tail", "v_tail")):
        codes, right = getattr(found, keys).int(), getattr(wanted, keys).int()
        assert not codes.numel() or ((codes - right).abs() <= 1).all()
        assert near_codes(in_rows(getattr(found, values), codes.shape[2]), getattr(wanted, values))

    lists = cases.select_lists(case, found.q_means, found.k_means, inputs.softmax_scale)
    arguments = (lists, inputs.softmax_scale, inputs.residual)
    out, lse = ops.block_sparse_attention(inputs.q, found, *arguments)
    again, _ = ops.block_sparse_attention(inputs.q, found, *arguments)
    assert torch.equal(out, again) and out.isfinite().all()
    rounded, rounded_lse = reference.block_sparse_attention(inputs.q.float(), found, *arguments)
    wide = prepare(
        reference, case, dataclasses.replace(inputs, **{x: getattr(inputs, x).float() for x in "qkv"}), SIXTEEN_BIT
    )
    exact, _ = reference.block_sparse_attention(inputs.q.float(), wide, *arguments)
    # Weights are rounded alike here and there; kernels keep fewer bits of sums.
    assert relative_error(out, exact) <= 1.1 * relative_error(rounded, exact) + 4 * torch.finfo(dtype).eps
    assert relative_error(out, rounded) <= 0.01
    assert torch.equal(lse.isfinite(), rounded_lse.isfinite())
    # A weight between two codes may get either one here and there; where a row has no other, lse moves by that step.
    moved = torch.where(lse.isfinite(), lse - rounded_lse, 0).abs()
    assert moved.amax() <= math.log(9 / 8) + 1e-3 and moved.mean() <= 1e-3


@pytest.mark.parametrize("where", ["context", "video"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_value_far_beyond_the_sampled_ones(dtype, where, card):
    """In one head, and in two channels, of which one has nothing else: those of other heads keep their scales."""
    case = dataclasses.replace(cases.Case("spike", grid=(5, 16, 20), before=20, heads=3), head_dim=128)
    inputs = cases.make_inputs(case, dtype, card)
    usual = prepare(ops, case, inputs).values.scale
    row = 3 if where == "context" else case.before + 1001  # in curve order; samples are every 16th of the video
    inputs.v[:, 1, :, 3] = 0
    inputs.v[:, 1, inputs.token_index[row].item(), 2:4] = 3000.0
    found, wanted = prepare(ops, case, inputs), prepare(reference, case, inputs)
    for one, other in zip(found.values, wanted.values, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    for name in ("v_carved", "v_tail"):
        right = getattr(wanted, name)
        assert near_codes(in_rows(getattr(found, name), right.shape[2]), right)
    assert torch.equal(found.values.scale[:, [0, 2]], usual[:, [0, 2]])
    assert (found.values.scale[:, 1, 2:4] > 6).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_self_test_passes(dtype, card):
    assert self_test.failure(torch.device(card), dtype, 128, "fp8") == ""


def test_a_kernel_that_is_wrong_is_refused_with_the_reason(card, monkeypatch):
    def wrong(q, *arguments):
        out, lse = ops.block_sparse_attention(q, *arguments)
        return out * 1.2, lse

    monkeypatch.setattr(self_test, "block_sparse_attention", wrong)
    q = torch.randn(3, 1, 2, TokenGrid(2, 8, 8).num_tokens, 128, device=card, dtype=torch.bfloat16)
    with pytest.raises(PrecisionUnavailable, match="native_cuda: self-test failed: dense out off by"):
        CarvedAttention(JengaConfig(precision="fp8"))(*q.unbind(0), TokenGrid(2, 8, 8))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_carved_attention_takes_it_by_name(dtype, card):
    grid = TokenGrid(4, 12, 16)
    q, k, v = torch.randn(3, 1, 2, grid.num_tokens, 128, device=card, dtype=dtype).unbind(0)
    exact = CarvedAttention(JengaConfig(strict=True))(q, k, v, grid)
    result = CarvedAttention(JengaConfig(precision="fp8", strict=True))(q, k, v, grid)
    assert (result.backend, result.precision, exact.precision) == ("native_cuda", "fp8", "16-bit")
    assert 1e-3 < relative_error(result.out, exact.out) < 0.05


def test_opcheck(card):
    case = cases.Case("compile", grid=(2, 9, 13), batch=2, before=20, masked=3, head_dim=128)
    inputs = cases.make_inputs(case, torch.bfloat16, card)
    tensors = (inputs.q, inputs.k, inputs.v, inputs.token_index, case.num_context)
    torch.library.opcheck(torch.ops.jenga.prepare_fp8_blocks.default, (*tensors, 16, 8, 32, inputs.context_bias))


def test_fakes_have_the_shapes_of_blocks():
    if not ops.native_status().cpu:
        pytest.skip(ops.native_status().reason)
    with torch.device("meta"):
        q, index = torch.empty(2, 3, 520, 128, dtype=torch.bfloat16), torch.empty(520, dtype=torch.int32)
    outputs = torch.ops.jenga.prepare_fp8_blocks(q, q, q, index, 20, 16, 8, 64)
    shapes = [(tuple(x.shape), x.dtype) for x in outputs]
    assert shapes[1] == ((2, 3, 10, 128, 64), torch.float8_e4m3fn) and shapes[5] == ((2, 3, 1, 128, 64), shapes[1][1])
    assert shapes[0] == ((2, 3, 628, 128), torch.int8) and shapes[-1] == ((2, 3, 128), torch.float32)


def test_the_cpu_says_that_it_has_none():
    if not ops.native_status().cpu:
        pytest.skip(ops.native_status().reason)
    case = cases.Case("cpu", before=20, head_dim=128)
    inputs = cases.make_inputs(case, torch.bfloat16)
    with pytest.raises(RuntimeError, match="prepare_fp8_blocks: q must be on a CUDA device, got cpu"):
        prepare(ops, case, inputs)
    other = dataclasses.replace(case, head_dim=64)
    with pytest.raises(RuntimeError, match="prepare_fp8_blocks: q must have a head dim of 128 for e4m3 values, got 64"):
        prepare(ops, other, cases.make_inputs(other, torch.bfloat16))
    rows = prepare(reference, case, inputs)
    blocks = rows._replace(v_carved=in_blocks(rows.v_carved), v_tail=in_blocks(rows.v_tail))
    lists = cases.select_lists(case, blocks.q_means, blocks.k_means, inputs.softmax_scale)
    wide = ops.prepare_blocks(inputs.q, inputs.k, inputs.v, blocks.layout)
    for wrong, words in (
        (blocks, "k_carved must be bfloat16 on a CPU, got int8"),
        (rows, r"v_carved must have shape \[.*, 128, 64\], got \["),
        (wide._replace(values=blocks.values), "v_scale must not be given for values of bfloat16, got one"),
    ):
        with pytest.raises(RuntimeError, match=words):
            ops.block_sparse_attention(inputs.q, wrong, lists, inputs.softmax_scale)
