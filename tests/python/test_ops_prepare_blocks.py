"""prepare_blocks: carved keys and values are copies, means are as exact as torch's, on every case."""

import cases
import oracles
import pytest
import torch

from jenga.carving import ops

MEANS = ("q_means", "k_means", "k_tail", "v_tail")


def prepare(case, inputs):
    return ops.prepare_blocks(
        inputs.q,
        inputs.k,
        inputs.v,
        inputs.token_index,
        case.num_context,
        *case.cell_sizes,
        inputs.context_bias,
    )


def oracle(case, inputs, compute):
    tensors = (x.cpu() for x in (inputs.q, inputs.k, inputs.v, inputs.token_index))
    bias = None if inputs.context_bias is None else inputs.context_bias.cpu()
    return oracles.prepare_blocks(*tensors, case.num_context, *case.cell_sizes, bias, compute)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_case(case, dtype, device, poisoned_outputs):
    if device == "cuda" and case.cuda_reason(dtype):
        pytest.skip(case.cuda_reason(dtype))
    inputs = cases.make_inputs(case, dtype, device)
    prepared = prepare(case, inputs)._asdict()
    exact, plain = oracle(case, inputs, torch.float64), oracle(case, inputs, torch.float32)
    for name in ("k_carved", "v_carved"):
        assert torch.equal(prepared[name].cpu(), exact[name].to(dtype)), name
    for name in MEANS:
        oracles.assert_as_exact_as_torch(prepared[name], exact[name], plain[name].to(prepared[name].dtype))


def test_repeats_bitwise(dtype, device):
    case = cases.Case("repeat", batch=2, before=20)
    if device == "cuda" and case.cuda_reason(dtype):
        pytest.skip(case.cuda_reason(dtype))
    inputs = cases.make_inputs(case, dtype, device)
    first, second = prepare(case, inputs), prepare(case, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
