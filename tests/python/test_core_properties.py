"""Properties of csrc/core that hold for any grid, through the developer module _core, and its agreement with the
operators and the Python package. The published figures are tested in tests/cpp/core.

_core is looked for in JENGA_CORE_DIR, else in build/*/csrc/bindings.
"""

import importlib.util
import math
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
CURVES = ["gilbert3d", "gilbert2d_sliced", "raster"]
HOW_TO_BUILD = "cmake --preset dev && cmake --build --preset dev --target jenga_pybind"


def find_core():
    named = os.environ.get("JENGA_CORE_DIR")
    folders = [ROOT / named] if named else sorted(ROOT.glob("build/*/csrc/bindings"))
    files = [folder / f"_core{suffix}" for folder in folders for suffix in EXTENSION_SUFFIXES]
    found = next((file for file in files if file.is_file()), None)
    assert found or not named, f"JENGA_CORE_DIR must hold _core for this Python, got {named}; {HOW_TO_BUILD}"
    return found


def load_core(file):
    spec = importlib.util.spec_from_file_location("_core", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


core_file = find_core()
if core_file is None:
    pytest.skip(f"no build/*/csrc/bindings/_core for this Python; {HOW_TO_BUILD}", allow_module_level=True)
core = load_core(core_file)


@st.composite
def grids(draw, side=48, tokens=20_000, even=False):
    """(t, h, w), any shape of it: thin, flat, cubic."""
    sides = []
    for _ in range(3):
        longest = max(1, min(side, tokens // math.prod(sides)))
        sides.append(draw(st.integers(1, longest // 2 or 1)) * 2 if even else draw(st.integers(1, longest)))
    return tuple(draw(st.permutations(sides)))


def coordinates(order, grid):
    """int64 [N, 3]: (t, y, x) of every token of the order."""
    _, h, w = grid
    order = order.astype(np.int64)
    return np.stack([order // (h * w), order // w % h, order % w], axis=1)


def step_lengths(order, grid):
    """(frames crossed, L1 distance) of every step."""
    steps = np.abs(np.diff(coordinates(order, grid), axis=0))
    return steps[:, 0], steps.sum(axis=1)


@given(grids(), st.sampled_from(CURVES))
def test_order_is_a_permutation_and_rank_its_inverse(grid, curve):
    order = core.curve_order(*grid, curve)
    tokens = np.arange(math.prod(grid), dtype=np.int32)
    assert order.dtype == np.int32
    assert np.array_equal(np.sort(order), tokens)
    rank = core.curve_rank(order)
    assert rank.dtype == np.int32
    assert np.array_equal(order[rank], tokens)
    assert np.array_equal(rank[order], tokens)


# Odd sides cost longer steps. 4 is the longest met on the 13,824 grids with sides up to 24 and on 56,000 others with
# sides up to 256; the method asserts less, that most steps are 1.
@given(grids())
@example((5, 4, 5))
@example((37, 21, 23))
def test_steps_of_the_curve_are_short(grid):
    _, lengths = step_lengths(core.curve_order(*grid, "gilbert3d"), grid)
    assert (lengths >= 1).all() and (lengths <= 4).all()


@given(grids(even=True))
def test_steps_are_unit_steps_where_all_sides_are_even(grid):
    _, lengths = step_lengths(core.curve_order(*grid, "gilbert3d"), grid)
    assert (lengths == 1).all()


@given(grids(even=True))
def test_curve_runs_along_the_longest_side_where_all_are_even(grid):
    order = coordinates(core.curve_order(*grid, "gilbert3d"), grid)
    end = [0, 0, 0]
    longest = 2 - int(np.argmax(grid[::-1]))  # of equal sides the last
    end[longest] = grid[longest] - 1
    assert order[0].tolist() == [0, 0, 0]
    assert order[-1].tolist() == end


@given(grids())
def test_sliced_curve_finishes_a_frame_and_goes_on_where_it_ended(grid):
    t, h, w = grid
    order = core.curve_order(*grid, "gilbert2d_sliced")
    assert np.array_equal(order // (h * w), np.repeat(np.arange(t), h * w))
    frames, lengths = step_lengths(order, grid)
    assert (lengths[frames == 0] <= 2).all()
    assert (lengths[frames == 1] == 1).all()


@given(grids(tokens=400), st.sampled_from(CURVES), st.integers(1, 150))
def test_adjacency_is_the_neighbourhood_of_tokens(grid, curve, block_size):
    adjacency = core.block_adjacency(*grid, curve, block_size)
    place = coordinates(core.curve_order(*grid, curve), grid)
    near = (np.abs(place[:, None] - place[None]) <= 1).all(axis=2)
    block = np.arange(len(place)) // block_size
    expected = np.zeros((block[-1] + 1,) * 2, dtype=bool)
    np.logical_or.at(expected, (block[:, None], block[None]), near)
    assert adjacency.dtype == bool
    assert np.array_equal(adjacency, expected)


@settings(max_examples=30)
@given(grids(), st.sampled_from(CURVES), st.integers(16, 200))
def test_adjacency_is_symmetric_with_a_true_diagonal(grid, curve, block_size):
    adjacency = core.block_adjacency(*grid, curve, block_size)
    assert adjacency.shape == (-(-math.prod(grid) // block_size),) * 2
    assert np.array_equal(adjacency, adjacency.T)
    assert adjacency.diagonal().all()
    # The curve goes on from block to block, so that their ends touch; the raster does not at the end of a row.
    if curve != "raster":
        _, lengths = step_lengths(core.curve_order(*grid, curve), grid)
        assume((lengths == 1).all())
        assert adjacency.diagonal(1).all()


SCORES = st.lists(st.one_of(st.integers(-3, 3), st.floats(-30, 30, width=32)), min_size=1, max_size=40)


@given(SCORES, st.integers(1, 45), st.floats(0, 0.99), st.data())
def test_selection_is_the_smallest_sufficient_set(scores, min_blocks, top_p, data):
    scores = np.array(scores, dtype=np.float32)
    forced = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))), dtype=np.uint8)
    kept = core.select_row(scores, min_blocks, top_p)
    weight = np.exp(scores.astype(np.float64) - scores.max())
    share = weight[kept].sum() / weight.sum()
    floor = min(min_blocks, len(scores))
    slack = 1e-9  # sums of at most 40 doubles; top_p is rounded to fp32

    assert (np.diff(kept) > 0).all()
    assert len(kept) >= floor
    assert len(kept) == len(scores) or share > np.float32(top_p) - slack
    # Nothing that was left out comes before anything kept: a higher score, or an equal one at a lower index.
    ranking = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    assert set(kept) == set(ranking[: len(kept)])
    # One block fewer would be too few.
    without_last = [i for i in kept if i != ranking[len(kept) - 1]]
    assert len(kept) == floor or weight[without_last].sum() / weight.sum() <= np.float32(top_p) + slack
    with_forced = core.select_row(scores, min_blocks, top_p, forced)
    assert set(with_forced) == set(kept) | set(np.flatnonzero(forced))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: core.curve_order(0, 4, 4, "gilbert3d"), "curve_order: t must be positive, got 0"),
        (lambda: core.curve_order(4, 4, 4, "hilbert"), "curve_order: curve must be gilbert3d, gilbert2d_sliced or"),
        (lambda: core.curve_rank([0, 0]), "curve_rank: order must be a permutation of 0 .. 1, got 0 at position 1"),
        (lambda: core.block_adjacency(4, 4, 4, "raster", 0), "block_adjacency: block_size must be positive, got 0"),
        (lambda: core.select_row([1.0], 0, 0.0), "select_row: min_blocks must be at least 1, got 0"),
    ],
)
def test_errors_arrive_as_value_errors(call, text):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value).startswith(text)


SOME_GRIDS = [(1, 1, 1), (3, 5, 7), (8, 12, 10), (5, 9, 13), (1, 16, 16), (21, 22, 39)]


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("grid", SOME_GRIDS)
def test_operators_agree(grid, curve):
    ops = pytest.importorskip("jenga.carving.ops", reason="the package jenga is not installed: make setup")
    if not ops.native_status().cpu:
        pytest.skip(ops.native_status().reason)
    assert np.array_equal(ops.curve_order(*grid, curve).numpy(), core.curve_order(*grid, curve))
    assert np.array_equal(ops.block_adjacency(*grid, curve, 64).numpy(), core.block_adjacency(*grid, curve, 64))


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("grid", SOME_GRIDS)
def test_plain_python_agrees(grid, curve):
    curves = pytest.importorskip("jenga.carving.curves", reason="the package jenga is not installed: make setup")
    assert np.array_equal(curves.curve_order(*grid, curve).numpy(), core.curve_order(*grid, curve))
    assert np.array_equal(curves.block_adjacency(*grid, curve, 64).numpy(), core.block_adjacency(*grid, curve, 64))
