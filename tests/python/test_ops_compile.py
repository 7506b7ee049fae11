"""Fakes and torch.compile: opcheck of every operator, and a compiled function that calls all that a step calls."""

import cases
import pytest
import torch

from jenga.carving import ops
from jenga.carving.operands import CarvedLayout

CASE = cases.Case("compile", grid=(2, 9, 13), batch=2, before=20, masked=3)
RESIDUALS = ["none", "float", "int8", "int4"]


def dtype_for(device):
    return torch.float32 if device == "cpu" else torch.bfloat16


def prepared(device, residual="none"):
    case = cases.dataclasses.replace(CASE, residual=residual)
    inputs = cases.make_inputs(case, dtype_for(device), device)
    return case, inputs, cases.run(case, inputs)


def opcheck(name, *arguments):
    torch.library.opcheck(getattr(torch.ops.jenga, name).default, arguments)


def test_opcheck_without_tensors():
    opcheck("curve_order", 3, 5, 7, "gilbert3d")
    opcheck("block_adjacency", 3, 5, 7, "gilbert3d", 16)


@pytest.mark.parametrize("tail_block_size", [0, 32])
@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_opcheck_prepare_blocks(tail_block_size, layout, device):
    case = cases.dataclasses.replace(CASE, layout=layout)
    inputs = cases.make_inputs(case, dtype_for(device), device)
    tensors = (inputs.q, inputs.k, inputs.v, inputs.token_index)
    sizes = (16, 8, tail_block_size)
    opcheck("prepare_blocks", *tensors, case.num_context, *sizes)
    opcheck("prepare_blocks", *tensors, case.num_context, 0, 0, tail_block_size)
    opcheck("prepare_blocks", *tensors, case.num_context, *sizes, inputs.context_bias)


@pytest.mark.parametrize("top_p", [0.0, 0.5])
@pytest.mark.parametrize("with_adjacency", [False, True])
def test_opcheck_select_blocks(top_p, with_adjacency, device):
    _, inputs, run = prepared(device)
    shape = (CASE.blocks(128), CASE.blocks(64))
    adjacency = torch.ones(shape, dtype=torch.bool, device=device) if with_adjacency else None
    means = (run.blocks.q_means, run.blocks.k_means)
    opcheck("select_blocks", *means, adjacency, *CASE.score_sizes, 2, top_p, inputs.softmax_scale)


def test_opcheck_tail_bias(device):
    _, inputs, run = prepared(device)
    opcheck("tail_bias", run.blocks.q_means, run.blocks.k_means, CASE.num_video, 8, 64, inputs.softmax_scale)


@pytest.mark.parametrize("residual", RESIDUALS)
def test_opcheck_block_sparse_attention(residual, device):
    case, inputs, run = prepared(device, residual)
    opcheck(
        "block_sparse_attention",
        *(inputs.q, run.blocks.k_carved, run.blocks.v_carved, run.lists.index, run.lists.count),
        *(inputs.token_index, case.num_context, 128, 64, inputs.softmax_scale, inputs.context_bias),
        *(run.blocks.k_tail, run.blocks.v_tail, 64, *(inputs.residual or (None, None))),
    )


@pytest.mark.parametrize("bits", [4, 8])
def test_opcheck_pack_residual(bits, device):
    _, inputs, run = prepared(device)
    opcheck("pack_residual", inputs.q, run.out, bits)


def test_opcheck_kept_share(device):
    _, _, run = prepared(device)
    opcheck("kept_share", *run.lists, CASE.num_video, 64)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_step_equals_eager(dynamic, device):
    def step(q, k, v, token_index, num_context):
        blocks = ops.prepare_blocks(q, k, v, CarvedLayout(token_index, num_context))
        cells = blocks.layout.cells(q.shape[2] - num_context)
        lists = ops.select_blocks(blocks.q_means, blocks.k_means, None, cells, 2, 0.5, 0.125)
        bias = ops.tail_bias(blocks.q_means, blocks.k_means, q.shape[2] - num_context, 8, 64, 0.125)
        out, lse = ops.block_sparse_attention(q, blocks._replace(tail_bias=bias), lists, 0.125)
        packed, scale = ops.pack_residual(q, out, 4)
        share = ops.kept_share(lists, q.shape[2] - num_context, 64)
        return out.transpose(1, 2).flatten(2) + 1, lse, packed, scale, share

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for grid in ((2, 9, 13), (3, 8, 16)):
        case = cases.dataclasses.replace(CASE, grid=grid)
        inputs = cases.make_inputs(case, dtype_for(device), device)
        arguments = (inputs.q, inputs.k, inputs.v, inputs.token_index, case.num_context)
        with torch.no_grad():
            expected, actual = step(*arguments), compiled(*arguments)
        for a, b in zip(expected, actual, strict=True):
            assert torch.equal(a, b) and a.stride() == b.stride()


def test_compiling_with_grad_says_so(device):
    x = torch.randn(1, 1, 64, 8, device=device, dtype=torch.bfloat16, requires_grad=True)
    torch.compiler.reset()
    with pytest.raises(Exception, match="pack_residual: dense must not require grad"):
        torch.compile(lambda x: ops.pack_residual(x, x.detach(), 8)[1] * 2, backend="aot_eager")(x)
