"""The self-test passes where the kernels are right, and a kernel that is wrong is never used."""

import time

import pytest
import torch

from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving import ops, self_test

GRID = TokenGrid(2, 8, 16)


@pytest.fixture
def fresh():
    """Nothing is known of any kernel before the test, nor of a broken one after it."""
    self_test._failure.cache_clear()
    yield
    self_test._failure.cache_clear()


@pytest.mark.parametrize("head_dim", [64, 128, 72])
def test_right_kernels_pass(fresh, device, kernel_dtype, head_dim):
    assert self_test.failure(torch.device(device), kernel_dtype, head_dim) == ""


def test_it_takes_less_than_100_ms_on_a_gpu(fresh, device):
    if device == "cpu":
        pytest.skip("a rule for GPUs")
    torch.zeros(1, device=device).item()
    start = time.perf_counter()
    assert self_test.failure(torch.device(device), torch.bfloat16, 128) == ""
    seconds = time.perf_counter() - start
    print(f"self-test: {seconds * 1e3:.1f} ms")
    assert seconds < 0.1


def nothing(q, *_, **__):
    return torch.zeros_like(q), torch.zeros(q.shape[:3], device=q.device)


def undefined(q, *_, **__):
    return torch.full_like(q, torch.nan), torch.zeros(q.shape[:3], device=q.device)


def refused(*_, **__):
    raise RuntimeError("no kernel image is available\nand more")


@pytest.mark.parametrize(
    ("broken", "words"),
    [(nothing, "dense out off by 1"), (undefined, "dense out off by nan"), (refused, "no kernel image")],
)
def test_a_wrong_kernel_is_never_used(fresh, monkeypatch, device, broken, words):
    calls = []
    monkeypatch.setattr(self_test, "block_sparse_attention", broken)
    monkeypatch.setattr(ops, "block_sparse_attention", lambda *a, **k: calls.append(a))
    dtype = torch.bfloat16
    q, k, v = torch.randn(3, 1, 2, GRID.num_tokens, 64, device=device, dtype=dtype).unbind(0)
    result = CarvedAttention(JengaConfig(backend="auto"))(q, k, v, GRID)
    assert result.backend != f"native_{device}" and not calls
    assert f"native_{device}: self-test failed" in result.reason and words in result.reason
    with pytest.raises(RuntimeError, match="self-test failed"):
        CarvedAttention(JengaConfig(strict=True))(q, k, v, GRID)


def test_it_runs_once_for_a_device_dtype_and_head_dim(fresh, monkeypatch):
    if not ops.native_status().cpu:
        pytest.skip(ops.native_status().reason)
    q = torch.randn(1, 2, GRID.num_tokens, 64)
    for _ in range(3):
        assert CarvedAttention()(q, q, q, GRID).backend == "native_cpu"
    assert self_test._failure.cache_info().misses == 1
