"""block_sparse_attention against float64 on every case, and what must hold beyond single cases."""

import math

import cases
import oracles
import pytest
import torch

from jenga.carving import ops


def skip_unless_supported(case, dtype, device):
    if device == "cuda" and case.cuda_reason(dtype):
        pytest.skip(case.cuda_reason(dtype))


def oracle(inputs, run, plain=False):
    arguments = (inputs.q, run.blocks, run.lists, inputs.softmax_scale, inputs.residual)
    return oracles.block_sparse_attention(*cases.on_device(arguments, "cpu"), plain=plain)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_case(case, dtype, device, poisoned_outputs):
    skip_unless_supported(case, dtype, device)
    inputs = cases.make_inputs(case, dtype, device)
    run = cases.run(case, inputs)
    out, lse = oracle(inputs, run)
    plain_out, plain_lse = oracle(inputs, run, plain=True)
    oracles.assert_as_exact_as_torch(run.out, out, plain_out)
    oracles.assert_as_exact_as_torch(run.lse, lse, plain_lse)
    assert run.out.stride() == torch.empty(out.transpose(1, 2).shape).transpose(1, 2).stride()


@pytest.mark.parametrize("tail_block_size", [0, 64])
def test_full_lists_are_dense_attention(tail_block_size, dtype, device, poisoned_outputs):
    case = cases.Case("dense", before=13, after=20, lists="full", tail_block_size=tail_block_size)
    skip_unless_supported(case, dtype, device)
    inputs = cases.make_inputs(case, dtype, device)
    q, k, v = (x.cpu() for x in (inputs.q, inputs.k, inputs.v))
    exact, plain = (
        torch.nn.functional.scaled_dot_product_attention(*(x.to(t) for x in (q, k, v)), scale=inputs.softmax_scale)
        for t in (torch.float64, dtype)
    )
    oracles.assert_as_exact_as_torch(cases.run(case, inputs).out, exact, plain)


def test_no_row_attends_nothing_silently(dtype, device, poisoned_outputs):
    case = cases.Case("nothing", before=16, masked=16, lists="empty", tail_block_size=0)
    skip_unless_supported(case, dtype, device)
    run = cases.run(case, cases.make_inputs(case, dtype, device))
    video = slice(case.before, None)
    assert (run.out[:, :, video] == 0).all() and (run.lse[:, :, video] == -math.inf).all()
    assert run.lse[:, :, : case.before].isfinite().all()  # context rows attend all video


def test_residual_is_added_as_it_stands(device):
    """With nothing to attend the output is the residual itself, every code of it."""
    case = cases.Case("residual alone", grid=(1, 4, 8), lists="empty", tail_block_size=0, residual="int4")
    skip_unless_supported(case, torch.float16, device)
    inputs = cases.make_inputs(case, torch.float16, device)
    exact = oracles.dequantise(cases.on_device(inputs.residual, "cpu")).transpose(1, 2)
    out = cases.run(case, inputs).out.cpu().double()
    assert torch.allclose(out, exact, rtol=torch.finfo(torch.float16).eps, atol=1e-7)


@pytest.mark.parametrize("case_name", ["context both sides", "batch 3", "tail 32", "residual int4"])
def test_repeats_bitwise(case_name, dtype, device):
    case = next(case for case in cases.CASES if case.name == case_name)
    skip_unless_supported(case, dtype, device)
    inputs = cases.make_inputs(case, dtype, device)
    first, second = cases.run(case, inputs), cases.run(case, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first.tensors, second.tensors, strict=True))


def test_offsets_beyond_two_billion_elements(device):
    """The second head lies 2^31 elements behind the first; the memory between is never touched."""
    case = cases.Case("far heads", grid=(1, 12, 16), before=10)
    dtype, gap = torch.bfloat16, 2**31 + 64
    if device == "cuda" and torch.cuda.mem_get_info()[0] < 3 * 2 * gap:
        pytest.skip("not enough GPU memory for tensors of 4 GiB")
    near = cases.make_inputs(case, dtype, device)
    far = []
    for x in (near.q, near.k, near.v):
        storage = torch.empty(gap + x[0, 0].numel(), dtype=dtype, device=device)
        view = storage.as_strided(x.shape, (0, gap, case.head_dim, 1))
        view.copy_(x)
        far.append(view)
    far_inputs = cases.Inputs(*far, *(getattr(near, f.name) for f in cases.dataclasses.fields(near)[3:]))
    expected, actual = cases.run(case, near), cases.run(case, far_inputs)
    assert all(torch.equal(a, b) for a, b in zip(expected.tensors, actual.tensors, strict=True))


def test_lists_of_any_strides(device):
    """Lists that are views, and keys that were carved once for a longer list of heads."""
    case = cases.Case("views", heads=3, before=5)
    inputs = cases.make_inputs(case, torch.bfloat16, device)
    expected = cases.run(case, inputs)
    index, count = expected.lists
    wide = torch.cat([index, index], dim=-1)[..., : index.shape[-1]]
    actual = cases.run(case, inputs, (wide, count.mT.contiguous().mT))
    assert torch.equal(expected.out, actual.out)


def test_threads_do_not_change_a_bit():
    case = cases.Case("threads", heads=3, before=20)
    inputs = cases.make_inputs(case, torch.float32)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(cases.run(case, inputs))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*(result.tensors for result in results), strict=True))


def test_lse_joins_two_halves(device):
    """Kept blocks split over two calls and joined by lse give the whole: lse is a natural log over all that counts."""
    case = cases.Case("halves", tail_block_size=0, lists="full", grid=(4, 8, 16))
    dtype = torch.float32 if device == "cpu" else torch.float16
    inputs = cases.make_inputs(case, dtype, device)
    whole = cases.run(case, inputs)
    index, count = whole.lists.index, whole.lists.count // 2
    parts = [cases.run(case, inputs, (half.contiguous(), count)) for half in index.chunk(2, dim=-1)]
    weights = torch.stack([part.lse for part in parts]).softmax(0)[..., None]
    joined = sum(weight * part.out.float() for weight, part in zip(weights, parts, strict=True))
    assert torch.allclose(joined, whole.out.float(), atol=8 * torch.finfo(dtype).eps)
    assert torch.allclose(torch.logaddexp(parts[0].lse, parts[1].lse), whole.lse, atol=1e-4)


def test_isa_is_named():
    assert ops.cpu_isa() in ("generic", "avx2", "avx512", "avx512_bf16")
