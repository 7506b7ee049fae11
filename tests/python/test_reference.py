"""The method in plain torch against float64 formulas, and its curve against the published numbers."""

import dataclasses
import itertools
import zlib
from types import SimpleNamespace

import cases
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jenga.carving import curves, flex, reference
from jenga.carving.operands import Residual

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def cases_run_the_reference(monkeypatch):
    """The case list calls `ops`; here these calls reach the reference, so that no native library is needed."""

    steps = {
        "curve_order": curves.curve_order,
        "prepare_blocks": reference.prepare_blocks,
        "select_blocks": reference.select_blocks,
        "block_sparse_attention": reference.block_sparse_attention,
    }
    monkeypatch.setattr(cases, "ops", SimpleNamespace(**steps))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_attention_is_the_formula(case, dtype):
    """Over several draws together: of one alone the worst element is torch's or ours by chance, another on each CPU."""
    found = []
    for seed in range(4):
        inputs = cases.make_inputs(case, dtype, seed=seed)
        result = cases.run(case, inputs)
        arguments = (inputs.q, result.blocks, result.lists, inputs.softmax_scale, inputs.residual)
        exact, plain = (oracles.block_sparse_attention(*arguments, plain=plain) for plain in (False, True))
        found.append(((result.out, result.lse), exact, plain))
        assert result.out.transpose(1, 2).is_contiguous() and result.out.dtype == dtype
    for part in range(2):  # out, lse
        oracles.assert_as_exact_as_torch(*(torch.stack([row[who][part] for row in found]) for who in range(3)))


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_preparation_is_the_formula(case):
    inputs = cases.make_inputs(case, torch.float32)
    arguments = (inputs.q, inputs.k, inputs.v, cases.layout(case, inputs.token_index), inputs.context_bias)
    exact = oracles.prepare_blocks(*arguments)
    for value, expected in zip(reference.prepare_blocks(*arguments)[:6], exact[:6], strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("top_p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("min_blocks", [1, 3, 99])
@pytest.mark.parametrize("cells", [(1, 1), (8, 2), (4, 8)])
def test_selection_is_the_rule(top_p, forced, min_blocks, cells, monkeypatch):
    monkeypatch.setattr(reference, "CPU_PIECE", 1)  # one query block at a time
    generator = torch.Generator().manual_seed(0)
    sizes = (515, 128, 64, *cells)
    numbers = (oracles.ceil_div(515 * cells[0], 128), oracles.ceil_div(515 * cells[1], 64))
    means = [torch.randn(2, 3, n, 16, generator=generator, dtype=torch.float64) for n in numbers]
    adjacency = torch.rand(5, 9, generator=generator) < 0.2 if forced else None
    index, count = reference.select_blocks(*means, adjacency, sizes, min_blocks, top_p, 0.5)
    expected = oracles.select_blocks(*means, adjacency, sizes, min_blocks, top_p, 0.5)
    assert torch.equal(oracles.lists_to_mask(index, count, 9), expected)
    assert index.shape[3] == (9 if top_p or forced else min(min_blocks, 9))
    listed = index >= 0
    assert torch.equal(listed.sum(-1), count.long())
    assert (index[..., 1:] > index[..., :-1])[listed[..., 1:]].all()


def test_equal_scores_keep_the_first_blocks():
    index, count = reference.select_blocks(
        torch.zeros(1, 1, 6, 8), torch.zeros(1, 1, 20, 8), None, (320, 128, 64, 2, 4), 2, 0.0, 1.0
    )
    assert index.tolist() == [[[[0, 1]] * 3]] and count.tolist() == [[[2] * 3]]


@pytest.mark.parametrize("block_size", [1, 32, 128, 1000])
def test_means_divide_by_what_is_there(block_size):
    x = torch.randn(2, 3, 75, 8, generator=torch.Generator().manual_seed(0))
    exact = torch.stack([cell.double().mean(2) for cell in x.split(block_size, dim=2)], dim=2)
    torch.testing.assert_close(reference.block_means(x, block_size).double(), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 4])
def test_packed_residual_is_within_half_a_code(bits):
    generator = torch.Generator().manual_seed(0)
    dense, carved = (torch.randn(2, 3, 40, 16, generator=generator) for _ in range(2))
    carved[0, 0, 0] = dense[0, 0, 0]
    packed, scale = reference.pack_residual(dense, carved, bits)
    error = oracles.dequantise(Residual(packed, scale)) - (dense - carved).double().transpose(1, 2)
    assert (error.abs() <= 0.5001 * scale[..., None]).all()
    assert scale[0, 0, 0] == 0 and packed.shape[-1] == 16 * bits // 8


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(
    "case",
    [case for case in cases.CASES if case.residual == "none" and case.lists in ("selected", "random")],
    ids=lambda case: case.name,
)
def test_flex_agrees_with_the_reference(case):
    """FlexAttention in its eager form, which computes the same function on the CPU."""
    case = dataclasses.replace(case, layout="bhsd")
    inputs = cases.make_inputs(case, torch.float32)
    result = cases.run(case, inputs)
    out, lse = flex.block_sparse_attention(inputs.q, result.blocks, result.lists, inputs.softmax_scale)
    torch.testing.assert_close(out, result.out, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(lse, result.lse, rtol=1e-5, atol=2e-5)


CONFORMANCE = [
    ((32, 22, 40), "gilbert3d", "85f444a9", 3702, (0, 40, 920, 880, 881, 921, 41, 1), 39),
    ((21, 33, 60), "gilbert2d_sliced", "7ec7b3b6", 4477, (0, 60, 61, 1, 2, 3, 63, 62), 39659),
    ((21, 30, 52), "gilbert2d_sliced", "e437d18e", 3460, (0, 52, 53, 1, 2, 3, 55, 54), 31251),
    ((3, 5, 7), "gilbert3d", "553a4841", 1, (0, 1, 36, 35, 70, 71, 72, 73), 6),
    ((3, 5, 7), "gilbert2d_sliced", "a3defa91", 1, (0, 1, 2, 3, 10, 9, 8, 7), 76),
]


@pytest.mark.parametrize(("grid", "curve", "checksum", "pairs", "first", "last"), CONFORMANCE)
def test_curve_has_the_published_checksum(grid, curve, checksum, pairs, first, last):
    order = curves.curve_order(*grid, curve)
    assert f"{zlib.crc32(order.numpy().astype('<i4').tobytes()):08x}" == checksum
    assert tuple(order[:8].tolist()) == first and order[-1] == last
    assert curves.block_adjacency(*grid, curve, 128).sum() == pairs


@settings(max_examples=60)
@given(st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from(["gilbert3d", "gilbert2d_sliced", "raster"]))
def test_curve_is_a_permutation_with_short_steps(grid, curve):
    order = curves.curve_order(*grid, curve).long()
    assert torch.equal(order.sort().values, torch.arange(order.numel()))
    assert torch.equal(curves.curve_rank(order)[order], torch.arange(order.numel()))
    if curve == "gilbert3d":
        t, h, w = grid
        place = torch.stack([order // (h * w), order // w % h, order % w], dim=1)
        step = place.diff(dim=0).abs().sum(1)  # odd sides cost a few longer steps
        assert (step <= 4).all() and (step == 1).sum() >= 0.8 * step.numel()


@settings(max_examples=15)
@given(st.tuples(*[st.integers(1, 6)] * 3), st.sampled_from(["gilbert3d", "gilbert2d_sliced"]))
def test_adjacency_is_its_definition(grid, curve):
    t, h, w = grid
    label = (curves.curve_rank(curves.curve_order(*grid, curve)) // 8).view(grid)
    expected = torch.zeros(-(-t * h * w // 8), -(-t * h * w // 8), dtype=torch.bool)
    for place in itertools.product(range(t), range(h), range(w)):
        for step in itertools.product((-1, 0, 1), repeat=3):
            other = tuple(a + b for a, b in zip(place, step, strict=True))
            if all(0 <= a < size for a, size in zip(other, grid, strict=True)):
                expected[label[place], label[other]] = True
    assert torch.equal(curves.block_adjacency(*grid, curve, 8), expected)


def test_unknown_curve_is_refused():
    with pytest.raises(ValueError, match="curve_order: curve must be one of gilbert3d, .* got 'peano'"):
        curves.curve_order(2, 2, 2, "peano")
