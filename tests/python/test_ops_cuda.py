"""What only CUDA has: graphs, side streams, no synchronisation with the host."""

import cases
import pytest
import torch

from jenga.carving import ops

CASE = cases.Case("graph", before=20, masked=3, residual="int4", head_dim=128)


@pytest.fixture
def inputs(cuda):
    return cases.make_inputs(CASE, torch.bfloat16, cuda)


def test_a_step_is_captured_in_a_graph(inputs):
    expected = cases.run(CASE, inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = cases.run(CASE, inputs)
    for _ in range(2):
        graph.replay()
    torch.cuda.synchronize()
    assert all(map(torch.equal, expected.tensors, captured.tensors))


def test_the_current_stream_is_used(inputs):
    expected = cases.run(CASE, inputs)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # were a kernel on another stream, it would read q before this long wait has passed and q has been written
        q = torch.zeros_like(inputs.q)
        torch.cuda._sleep(100_000_000)
        q.copy_(inputs.q)
        actual = cases.run(CASE, cases.dataclasses.replace(inputs, q=q))
    stream.synchronize()
    assert all(map(torch.equal, expected.tensors, actual.tensors))


def test_nothing_waits_for_the_device(inputs):
    cases.run(CASE, inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = cases.run(CASE, inputs).out
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert out.isfinite().all()


def test_too_many_blocks_are_refused_with_the_limit(inputs):
    sizes = (100_000 * 64, 128, 64, 1, 1)
    means = (torch.zeros(1, 1, n, 8, device="cuda", dtype=torch.bfloat16) for n in (50_000, 100_000))
    with pytest.raises(RuntimeError, match=r"select_blocks: num_video must be at most \d+ key blocks .*, got 100000;"):
        ops.select_blocks(*means, None, sizes, 1, 0.0, 1.0)


def test_the_kernels_of_a_generation_can_be_forced(inputs, monkeypatch):
    expected = cases.run(CASE, inputs)
    for sm in ("80", "86"):
        monkeypatch.setenv("JENGA_FORCE_SM", sm)
        actual = cases.run(CASE, inputs)
        torch.testing.assert_close(actual.out, expected.out, atol=2e-2, rtol=2e-2)
    monkeypatch.setenv("JENGA_FORCE_SM", "70")
    with pytest.raises(RuntimeError, match="select_blocks: q_means must be .* kernel for"):
        cases.run(CASE, inputs)
    with pytest.raises(RuntimeError, match="block_sparse_attention: q must be .* kernel for"):
        cases.run(CASE, inputs, expected.lists)
