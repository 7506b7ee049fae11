"""benchmarks.bench_precision: the finer rules of 8 bits that stand beside the kernels'."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks import bench_precision
from benchmarks.bench_precision import FORMATS
from jenga import TokenGrid
from jenga.carving import quantise


@pytest.fixture(scope="module")
def call() -> bench_precision.Call:
    grid = TokenGrid(4, 12, 16)
    q, k, v = torch.randn(3, 1, 2, grid.num_tokens, 32, generator=torch.Generator().manual_seed(0)).unbind(0)
    return bench_precision.Call(SimpleNamespace(grid=grid), q, k, v, 0.2)


def error(call, name: str) -> float:
    return call.error(*FORMATS[name])


def test_finer_rules_are_nearer(call):
    assert 0 < error(call, "keys int8 by row") < error(call, "keys int8") < 0.02
    whole = "keys int8, values e4m3"
    assert error(call, f"{whole}, nearest weights") < error(call, whole) < 0.06
    assert error(call, whole) < error(call, f"{whole}, units of 128") < error(call, f"{whole}, whole powers")
    assert error(call, "keys int8 by row, values e4m3") < error(call, whole)


def test_unrotated_keys_have_the_step_of_their_largest_channel(call):
    q, k, v = call._q, bench_precision.with_outliers(call._k), call._v
    hard = bench_precision.Call(SimpleNamespace(grid=TokenGrid(4, 12, 16)), q, k, v, 0.2)
    assert error(hard, "keys int8") < error(hard, "keys int8 unrotated") / 2
    assert error(hard, "keys int8, values e4m3") < error(hard, "keys int8 unrotated, values e4m3")


def test_a_rule_is_over_with_its_call(call):
    before = dict(vars(quantise))
    found = error(call, "keys int8")
    for name in FORMATS:
        error(call, name)
    assert dict(vars(quantise)) == before and error(call, "keys int8") == found


def test_a_scale_a_row_is_the_step_of_that_row():
    keys = torch.randn(1, 1, 100, 16, dtype=torch.float64)
    codes, scale = bench_precision.BY_ROW.quantise_keys(keys, torch.int8)
    assert all(map(torch.equal, (codes, scale), quantise.quantise_rows(keys)))
    assert bench_precision.BY_ROW.scale_of_rows(scale, 100) is scale


def test_nearest_weights_are_the_nearest():
    codes = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).double() / 448
    weights = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    miss = (bench_precision.nearest_weights(weights) - weights).abs()
    torch.testing.assert_close(miss, (codes[:, None] - weights).abs().amin(0), rtol=1e-6, atol=1e-9)
