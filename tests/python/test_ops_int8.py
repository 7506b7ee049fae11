"""The operators with int8 keys: every case against the reference, which rounds in the same way. CUDA has them, the CPU
says so.
"""

import cases
import pytest
import torch
from oracles import relative_error

from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving import ops, reference, self_test
from jenga.carving.quantise import PRECISIONS, Precision

INT8 = PRECISIONS["int8"]
MULTIPLE, LARGEST = 16, 128  # head dims
DTYPES = (torch.bfloat16, torch.float16)
CASES = [case for case in cases.CASES if case.q_block_size == 128]


def prepare(module, case, inputs):
    layout = cases.layout(case, inputs.token_index)
    return cases.weighed(case, module.prepare_blocks(inputs.q, inputs.k, inputs.v, layout, inputs.context_bias, INT8))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case, dtype, cuda, poisoned_outputs):
    inputs = cases.make_inputs(case, dtype, cuda)
    if case.head_dim % MULTIPLE or case.head_dim > LARGEST:
        with pytest.raises(RuntimeError, match="prepare_int8_blocks: q must have a head dim that is a multiple of 16"):
            prepare(ops, case, inputs)
        return
    found, wanted = prepare(ops, case, inputs), prepare(reference, case, inputs)
    for name in ("k_carved", "k_tail"):
        one, other = getattr(found, name).int(), getattr(wanted, name).int()
        assert (one - other).abs().amax() <= 1 if one.numel() else True
        assert one.numel() == 0 or (one != other).double().mean() < 0.02
    for one, other in zip(found.keys, wanted.keys, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.v_carved, wanted.v_carved)

    lists = cases.select_lists(case, found.q_means, found.k_means, inputs.softmax_scale)
    arguments = (lists, inputs.softmax_scale, inputs.residual)
    out, lse = ops.block_sparse_attention(inputs.q, found, *arguments)
    again, _ = ops.block_sparse_attention(inputs.q, found, *arguments)
    exact, exact_lse = reference.block_sparse_attention(inputs.q.float(), found, *arguments)
    assert torch.equal(out, again) and out.isfinite().all()
    assert torch.equal(lse.isfinite(), exact_lse.isfinite())
    assert relative_error(out, exact) <= 4 * torch.finfo(dtype).eps
    miss = torch.where(lse.isfinite(), lse - exact_lse, 0).abs().amax()
    assert miss <= 5e-3 * max(1.0, case.logit_std)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head_dim", [64, 96, 128])
def test_the_self_test_passes(dtype, head_dim, cuda):
    assert self_test.failure(torch.device(cuda), dtype, head_dim, "int8") == ""


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_carved_attention_takes_it_by_name(dtype, cuda):
    grid = TokenGrid(4, 12, 16)
    q, k, v = torch.randn(3, 1, 2, grid.num_tokens, 128, device=cuda, dtype=dtype).unbind(0)
    exact = CarvedAttention(JengaConfig(strict=True))(q, k, v, grid)
    result = CarvedAttention(JengaConfig(precision="int8", strict=True))(q, k, v, grid)
    assert (result.backend, result.precision, exact.precision) == ("native_cuda", "int8", "16-bit")
    assert 1e-3 < relative_error(result.out, exact.out) < 0.02


def test_opcheck(cuda):
    case = cases.Case("compile", grid=(2, 9, 13), batch=2, before=20, masked=3)
    inputs = cases.make_inputs(case, torch.bfloat16, cuda)
    tensors = (inputs.q, inputs.k, inputs.v, inputs.token_index, case.num_context)
    torch.library.opcheck(torch.ops.jenga.prepare_int8_blocks.default, (*tensors, 16, 8, 32, inputs.context_bias))


def test_the_cpu_says_that_it_has_none():
    if not ops.native_status().cpu:
        pytest.skip(ops.native_status().reason)
    case = cases.Case("cpu", before=20)
    inputs = cases.make_inputs(case, torch.bfloat16)
    with pytest.raises(RuntimeError, match="prepare_int8_blocks: q must be on a CUDA device, got cpu"):
        prepare(ops, case, inputs)
    blocks = prepare(reference, case, inputs)
    lists = cases.select_lists(case, blocks.q_means, blocks.k_means, inputs.softmax_scale)
    with pytest.raises(RuntimeError, match="k_carved must be bfloat16 on a CPU, got int8"):
        ops.block_sparse_attention(inputs.q, blocks, lists, inputs.softmax_scale)
    with pytest.raises(RuntimeError, match="k_scale must be given for keys of int8, got none"):
        ops.block_sparse_attention(inputs.q, blocks._replace(keys=None), lists, inputs.softmax_scale)
    sixteen = ops.prepare_blocks(inputs.q, inputs.k, inputs.v, blocks.layout)
    with pytest.raises(RuntimeError, match="k_scale must not be given for keys of bfloat16, got one"):
        ops.block_sparse_attention(inputs.q, sixteen._replace(keys=blocks.keys), lists, inputs.softmax_scale)
    with pytest.raises(ValueError, match="precision must be one of PRECISIONS"):
        ops.prepare_blocks(inputs.q, inputs.k, inputs.v, blocks.layout, None, Precision(None, torch.float8_e4m3fn))
