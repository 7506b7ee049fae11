"""pack_residual: codes and scales against their definition, and the way back through the attention operator."""

import cases
import oracles
import pytest
import torch

from jenga.carving import ops
from jenga.carving.operands import Residual


def tensors(dtype, device, head_dim=64):
    generator = torch.Generator().manual_seed(0)
    dense, carved = (torch.randn(2, 3, 77, head_dim, generator=generator).to(dtype) for _ in range(2))
    carved[0, 0, :5] = dense[0, 0, :5]  # rows whose residual is zero
    carved = carved.transpose(1, 2).contiguous().transpose(1, 2)
    return dense.to(device), carved.to(device)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("head_dim", [8, 64, 96])
def test_definition(bits, head_dim, kernel_dtype, device, poisoned_outputs):
    dense, carved = tensors(kernel_dtype, device, head_dim)
    packed, scale = (x.cpu() for x in ops.pack_residual(dense, carved, bits))
    exact = (dense.cpu().float() - carved.cpu().float()).double().transpose(1, 2)
    largest = 2 ** (bits - 1) - 1
    exact_scale = exact.abs().amax(-1) / largest
    assert packed.dtype == (torch.int8 if bits == 8 else torch.uint8)
    assert packed.shape == (2, 77, 3, head_dim if bits == 8 else head_dim // 2)
    assert torch.allclose(scale.double(), exact_scale, rtol=1e-6, atol=0)
    assert (scale[0, :5, 0] == 0).all()
    codes = oracles.dequantise(Residual(packed, None if bits == 8 else torch.ones_like(scale)))
    assert codes.abs().max() == largest
    # within half a step, up to the rounding of the division
    error = (oracles.dequantise(Residual(packed, scale)) - exact).abs()
    assert (error <= 0.5001 * exact_scale[..., None]).all()


@pytest.mark.parametrize("bits", [8, 4])
def test_attention_adds_it_back(bits, device):
    case = cases.Case("round trip", before=10, density=0.2)
    dtype = torch.bfloat16
    inputs = cases.make_inputs(case, dtype, device)
    carved = cases.run(case, inputs).out
    dense = torch.nn.functional.scaled_dot_product_attention(inputs.q, inputs.k, inputs.v, scale=inputs.softmax_scale)
    residual = ops.pack_residual(dense, carved, bits)
    with_residual = cases.dataclasses.replace(inputs, residual=residual)
    restored = cases.run(case, with_residual).out
    # half a step of the code, one rounding of the carved output before packing, one of the sum
    unit = torch.finfo(dtype).eps / 2
    allowed = residual.scale.transpose(1, 2)[..., None] / 2 + unit * (carved.float().abs() + restored.float().abs())
    assert ((restored.float() - dense.float()).abs() <= 1.01 * allowed).all()


def test_repeats_bitwise(kernel_dtype, device):
    first, second = (ops.pack_residual(*tensors(kernel_dtype, device), 4) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
