"""A carved step inside a CUDA graph: replays with changed inputs and lists, bit for bit what an eager call gives."""

import cases
import pytest
import torch

from jenga.carving import ops

CASE = cases.Case("graph", grid=(4, 12, 16), batch=2, before=20, masked=3, head_dim=128)

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() and ops.native_status().cuda), reason="needs a GPU and the CUDA operators"
)


def captured(step):
    """The graph of one call of `step` and its outputs, after the warm-up that torch asks for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()
    return graph, outputs


def whole_step(inputs, top_p=0.3):
    prepared = cases.prepare(CASE, inputs)
    means = (prepared.q_means, prepared.k_means)
    lists = ops.select_blocks(*means, None, CASE.score_sizes, 3, top_p, inputs.softmax_scale)
    bias = ops.tail_bias(*means, CASE.num_video, 8, 64, inputs.softmax_scale)
    out, lse = attend(inputs, prepared._replace(tail_bias=bias), lists)
    packed, scale = ops.pack_residual(inputs.q, out, 4)
    return (*lists, out, lse, packed, scale, ops.kept_share(lists, CASE.num_video, 64))


def attend(inputs, prepared, lists):
    return ops.block_sparse_attention(inputs.q, prepared, lists, inputs.softmax_scale)


def test_whole_step_replays_with_new_inputs():
    inputs = cases.make_inputs(CASE, torch.bfloat16, "cuda")
    graph, outputs = captured(lambda: whole_step(inputs))
    for seed in (1, 2):
        fresh = cases.make_inputs(CASE, torch.bfloat16, "cuda", seed=seed)
        for name in ("q", "k", "v"):
            getattr(inputs, name).copy_(getattr(fresh, name))
        graph.replay()
        torch.cuda.synchronize()
        assert all(torch.equal(a, b) for a, b in zip(outputs, whole_step(fresh), strict=True))


def test_attention_replays_with_changed_lists():
    inputs = cases.make_inputs(CASE, torch.float16, "cuda")
    prepared = cases.prepare(CASE, inputs)
    random = cases.dataclasses.replace(CASE, lists="random")
    lists = cases.select_lists(random, prepared.q_means, prepared.k_means, inputs.softmax_scale)
    graph, outputs = captured(lambda: attend(inputs, prepared, lists))
    for kind, seed in (("random", 5), ("empty", 0), ("full", 0)):
        changed = cases.dataclasses.replace(CASE, lists=kind)
        fresh = cases.select_lists(changed, prepared.q_means, prepared.k_means, inputs.softmax_scale, seed)
        for static, new in zip(lists, fresh, strict=True):
            static.copy_(new)
        graph.replay()
        torch.cuda.synchronize()
        assert all(torch.equal(a, b) for a, b in zip(outputs, attend(inputs, prepared, fresh), strict=True))


@pytest.mark.parametrize("head_dim", [64, 96, 128, 192])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_repeats_bitwise(dtype, head_dim):
    case = cases.dataclasses.replace(CASE, head_dim=head_dim)
    inputs = cases.make_inputs(case, dtype, "cuda")
    first, *others = (whole_step(inputs) for _ in range(4))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_compiled_with_graphs_equals_eager():
    inputs = cases.make_inputs(CASE, torch.bfloat16, "cuda")

    def step(q, k, v):
        return whole_step(cases.dataclasses.replace(inputs, q=q, k=k, v=v))[2] + 1

    torch.compiler.reset()
    compiled = torch.compile(step, mode="reduce-overhead", fullgraph=True)
    with torch.no_grad():
        expected = step(inputs.q, inputs.k, inputs.v)
        for _ in range(3):
            torch.compiler.cudagraph_mark_step_begin()
            assert torch.equal(compiled(inputs.q, inputs.k, inputs.v), expected)
