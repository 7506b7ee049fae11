"""Backends that fail when they are used: the next one takes the call, once and for the run, and the reason is told."""

import gc
import itertools
import weakref

import pytest
import torch

from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving import flex, ops, reference
from jenga.carving.dispatch import Backends, Choice, NoBackend

GRID = TokenGrid(3, 12, 12)  # 432 tokens, 7 key blocks

needs_native = pytest.mark.skipif(not ops.native_status().cpu, reason=ops.native_status().reason)


def draw(tokens: int = 432, batch: int = 1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(tokens)
    return [torch.randn(batch, 2, tokens, 32, generator=generator).to(dtype) for _ in range(3)]


def break_operator(monkeypatch, module, name: str, error: Exception) -> list[None]:
    """Make that operator raise; the list grows by one at every call."""
    calls: list[None] = []

    def fail(*args, **kwargs):
        calls.append(None)
        raise error

    monkeypatch.setattr(module, name, fail)
    return calls


@needs_native
@pytest.mark.parametrize(
    "name", ["prepare_blocks", "select_blocks", "tail_bias", "block_sparse_attention", "kept_share"]
)
def test_a_kernel_that_raises_is_tried_once_and_the_next_backend_takes_over(monkeypatch, name):
    calls = break_operator(monkeypatch, ops, name, RuntimeError("no kernel image\nand a long story"))
    q, k, v = draw()
    expected = CarvedAttention(JengaConfig(backend="reference"))(q, k, v, GRID)
    attention = CarvedAttention()
    for _ in range(3):
        result = attention(q, k, v, GRID)
        assert (result.backend, result.reason) == ("reference", "native_cpu: failed with RuntimeError: no kernel image")
        torch.testing.assert_close(result.out, expected.out)
    assert len(calls) == 1


@needs_native
def test_all_configurations_of_a_run_learn_of_it(monkeypatch):
    calls = break_operator(monkeypatch, ops, "block_sparse_attention", OSError("driver"))
    backends = Backends()
    for density in (0.2, 0.3):
        result = CarvedAttention(JengaConfig(density=density), backends)(*draw(), GRID)
        assert result.reason == "native_cpu: failed with OSError: driver"
    assert len(calls) == 1


@needs_native
def test_strict_raises_with_the_cause(monkeypatch):
    cause = RuntimeError("no compiler")
    break_operator(monkeypatch, ops, "block_sparse_attention", cause)
    with pytest.raises(RuntimeError, match="strict must not meet a fallback, got native_cpu: failed with") as raised:
        CarvedAttention(JengaConfig(strict=True))(*draw(), GRID)
    assert raised.value.__cause__ is cause


@needs_native
def test_where_all_fail_every_reason_is_in_the_error(monkeypatch):
    break_operator(monkeypatch, ops, "prepare_blocks", RuntimeError("one"))
    break_operator(monkeypatch, reference, "prepare_blocks", RuntimeError("two"))
    message = "must be taken by a backend, got native_cpu: .*: one; reference: failed with RuntimeError: two"
    with pytest.raises(NoBackend, match=message):
        CarvedAttention()(*draw(), GRID)


@needs_native
def test_out_of_memory_is_no_failure_of_the_backend(monkeypatch):
    attention = CarvedAttention()
    with monkeypatch.context() as patch:
        break_operator(patch, ops, "block_sparse_attention", torch.OutOfMemoryError("full"))
        with pytest.raises(torch.OutOfMemoryError):
            attention(*draw(), GRID)
    assert attention(*draw(), GRID).backend == "native_cpu"


@needs_native
def test_a_residual_is_packed_by_the_next_backend_too(monkeypatch):
    q, k, v = draw()
    attention = CarvedAttention()
    carved = attention(q, k, v, GRID)
    wanted = attention.pack_residual(q, carved, 8)
    break_operator(monkeypatch, ops, "pack_residual", RuntimeError("no kernel image"))
    residual = attention.pack_residual(q, carved, 8)
    assert (residual.codes - wanted.codes).abs().max() <= 1
    assert attention(q, k, v, GRID).reason.startswith("native_cpu: failed with RuntimeError")


@needs_native
def test_a_failure_keeps_no_tensor_alive(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(ops, "block_sparse_attention", fail)
    q, k, v = draw()
    attention, alive = CarvedAttention(), weakref.ref(q)
    gc.disable()
    try:
        attention(q, k, v, GRID)
        del q
        assert alive() is None
    finally:
        gc.enable()


def test_a_session_of_many_sizes_and_options_does_not_reach_the_recompile_limit(monkeypatch):
    """Compiled, but not by inductor: the guards, and so the variants, are those of a GPU."""
    variants = []

    def compile_nothing(graph, inputs):
        variants.append(graph)
        return graph.forward

    compiled = torch.compile(flex._attend, fullgraph=True, backend=compile_nothing)
    monkeypatch.setattr(flex, "_is_kernel", lambda q: True)
    monkeypatch.setattr(flex, "_compiled", lambda: compiled)
    monkeypatch.setattr(Backends, "choose", lambda *_: Choice("flex", "16-bit", ""))
    torch._dynamo.reset()
    grids, dtypes = (TokenGrid(1, 12, 16), TokenGrid(2, 9, 11)), (torch.float32, torch.bfloat16)
    options = itertools.product(grids, dtypes, (1, 2), (64, 128), ("mean", "none"))
    for grid, dtype, batch, block, compensation in options:
        q, k, v = draw(grid.num_tokens, batch, dtype)
        CarvedAttention(JengaConfig(kv_block_size=block, compensation=compensation))(q, k, v, grid)
    assert torch._dynamo.config.recompile_limit < len(variants) < flex.RECOMPILE_LIMIT
