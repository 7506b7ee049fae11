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


def test_without_cells_q_is_not_read_and_the_rest_is_the_same(dtype, device, poisoned_outputs):
    case = cases.Case("no cells", batch=2, before=20, masked=3)
    if device == "cuda" and case.cuda_reason(dtype):
        pytest.skip(case.cuda_reason(dtype))
    inputs = cases.make_inputs(case, dtype, device)
    whole = cases.prepare(case, inputs)
    unread = cases.dataclasses.replace(inputs, q=torch.full_like(inputs.q, torch.nan))
    bare = cases.prepare(cases.dataclasses.replace(case, q_cells=0, k_cells=0), unread)
    assert bare.q_means.shape == bare.k_means.shape == (2, 2, 0, case.head_dim)
    for name in ("k_carved", "v_carved", "k_tail", "v_tail"):
        assert torch.equal(getattr(bare, name), getattr(whole, name)), name


def test_repeats_bitwise(dtype, device):
    case = cases.Case("repeat", batch=2, before=20)
    if device == "cuda" and case.cuda_reason(dtype):
        pytest.skip(case.cuda_reason(dtype))
    inputs = cases.make_inputs(case, dtype, device)
    first, second = cases.prepare(case, inputs), cases.prepare(case, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first[:6], second[:6], strict=True))
