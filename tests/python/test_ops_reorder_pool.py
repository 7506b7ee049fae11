"""reorder_tokens and pool_blocks against their one-line definitions."""

import oracles
import pytest
import torch

from jenga.carving import ops

ANY_DTYPE = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool]


@pytest.mark.parametrize("any_dtype", ANY_DTYPE, ids=str)
@pytest.mark.parametrize("shape", [(7, 3), (2, 9, 5), (2, 3, 50, 16)], ids=str)
def test_reorder_is_a_gather(shape, any_dtype, device, poisoned_outputs):
    x = (torch.randn(shape) * 5).to(any_dtype).to(device)
    index = torch.randperm(shape[-2], dtype=torch.int32).to(device)
    assert torch.equal(ops.reorder_tokens(x, index), x[..., index.long(), :])


def test_reorder_takes_any_strides_and_a_part(device):
    x = torch.randn(2, 40, 3, 8, device=device).transpose(1, 2)[..., 1:7]
    index = torch.tensor([5, 5, 0], dtype=torch.int32, device=device)
    assert torch.equal(ops.reorder_tokens(x, index), x[..., [5, 5, 0], :])
    assert torch.equal(ops.reorder_tokens(x.mT, index), x.mT[..., [5, 5, 0], :])


def test_reorder_by_the_rank_restores(device):
    x = torch.randn(2, 60, 8, device=device)
    order = ops.curve_order(3, 4, 5).to(device)
    rank = order.long().argsort().to(torch.int32)
    assert torch.equal(ops.reorder_tokens(ops.reorder_tokens(x, order), rank), x)


@pytest.mark.parametrize("block_size", [1, 32, 128, 1000])
@pytest.mark.parametrize("masked", [False, True])
def test_pool_has_exact_divisors(block_size, masked, dtype, device, poisoned_outputs):
    if device == "cuda" and dtype == torch.float32:
        pytest.skip("operators on CUDA take bfloat16 and float16")
    x = torch.randn(2, 3, 201, 24).to(dtype)
    mask = torch.rand(2, 201) < 0.7 if masked else None
    if masked:
        mask[1, 64:160] = False  # a whole block of nothing
    means, counts = ops.pool_blocks(x.to(device), block_size, None if mask is None else mask.to(device))
    exact_means, exact_counts = oracles.pool_blocks(x, block_size, mask)
    assert torch.equal(counts.cpu(), exact_counts) and means.dtype == torch.float32
    oracles.assert_as_exact_as_torch(means, exact_means, oracles.pool_blocks(x, block_size, mask, torch.float32)[0])


def test_pool_ignores_what_a_masked_token_holds(device):
    x = torch.ones(1, 1, 6, 8, dtype=torch.bfloat16, device=device)
    x[:, :, 2] = torch.nan
    mask = torch.tensor([[True, True, False, True, True, True]], device=device)
    assert torch.equal(ops.pool_blocks(x, 3, mask)[0], torch.ones(1, 1, 2, 8, device=device))
