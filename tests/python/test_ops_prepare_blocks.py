"""prepare_blocks: carved keys and values are copies, means are as exact as torch's, on every case."""

import cases
import oracles
import pytest
import torch

MEANS = ("q_means", "k_means", "k_tail", "v_tail")


def oracle(case, inputs, compute):
    arguments = (inputs.q, inputs.k, inputs.v, cases.layout(case, inputs.token_index), inputs.context_bias)
    return oracles.prepare_blocks(*cases.on_device(arguments, "cpu"), compute)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_case(case, dtype, device, poisoned_outputs):
    if device == "cuda" and case.cuda_reason(dtype):
        pytest.skip(case.cuda_reason(dtype))
    inputs = cases.make_inputs(case, dtype, device)
    prepared = cases.prepare(case, inputs)
    exact, plain = oracle(case, inputs, torch.float64), oracle(case, inputs, torch.float32)
    for name in ("k_carved", "v_carved"):
        assert torch.equal(getattr(prepared, name).cpu(), getattr(exact, name).to(dtype)), name
    for name in MEANS:
        got = getattr(prepared, name)
        oracles.assert_as_exact_as_torch(got, getattr(exact, name), getattr(plain, name).to(got.dtype))


def test_repeats_bitwise(dtype, device):
    case = cases.Case("repeat", batch=2, before=20)
    if device == "cuda" and case.cuda_reason(dtype):
        pytest.skip(case.cuda_reason(dtype))
    inputs = cases.make_inputs(case, dtype, device)
    first, second = cases.prepare(case, inputs), cases.prepare(case, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first[:6], second[:6], strict=True))
