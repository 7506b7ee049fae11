"""select_blocks: the rule of kernels/params.h, its ties, and the shape of its lists."""

import oracles
import pytest
import torch

from jenga.carving import ops


def pools(num_q=7, num_kv=19, head_dim=64, batch=2, heads=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(batch, heads, n, head_dim, generator=generator) for n in (num_q, num_kv))


def check(q_pool, k_pool, adjacency, min_blocks, top_p, scale, device):
    on_device = (None if x is None else x.to(device) for x in (q_pool, k_pool, adjacency))
    index, count = (x.cpu() for x in ops.select_blocks(*on_device, min_blocks, top_p, scale))
    kept = oracles.select_blocks(q_pool, k_pool, adjacency, min_blocks, top_p, scale)
    num_kv = k_pool.shape[2]
    assert index.shape[-1] == (num_kv if top_p > 0 or adjacency is not None else min(min_blocks, num_kv))
    assert index.dtype == count.dtype == torch.int32
    assert torch.equal(count, kept.sum(-1, dtype=torch.int32))
    listed = torch.arange(index.shape[-1]) < count[..., None]
    assert (index[~listed] == -1).all()
    assert (index.diff(dim=-1)[listed[..., 1:]] > 0).all()
    assert torch.equal(oracles.lists_to_mask(index, count, num_kv), kept)


@pytest.mark.parametrize("min_blocks", [1, 5, 19, 50])
@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("with_adjacency", [False, True])
def test_rule(min_blocks, top_p, with_adjacency, device, poisoned_outputs):
    q_pool, k_pool = pools()
    adjacency = torch.rand(7, 19, generator=torch.Generator().manual_seed(3)) < 0.2 if with_adjacency else None
    check(q_pool, k_pool, adjacency, min_blocks, top_p, 0.2, device)


@pytest.mark.parametrize("head_dim", [8, 40, 128, 256])
@pytest.mark.parametrize("num_kv", [1, 2, 64, 130, 1025])
def test_sizes(head_dim, num_kv, device, poisoned_outputs):
    q_pool, k_pool = pools(num_q=3, num_kv=num_kv, head_dim=head_dim, batch=1, heads=2)
    check(q_pool, k_pool, None, max(1, num_kv // 5), 0.0, head_dim**-0.5, device)
    check(q_pool, k_pool, None, max(1, num_kv // 5), 0.5, head_dim**-0.5, device)


def test_ties_go_to_the_lower_index(device):
    q_pool, k_pool = torch.ones(1, 1, 2, 8), torch.zeros(1, 1, 40, 8)
    k_pool[:, :, 30] = 1.0
    index, count = ops.select_blocks(q_pool.to(device), k_pool.to(device), None, 4, 0.0, 1.0)
    assert index.cpu().tolist() == [[[[0, 1, 2, 30]] * 2]]
    assert count.cpu().tolist() == [[[4, 4]]]


def test_pools_of_any_strides(device):
    q_pool, k_pool = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in pools())
    check(q_pool, k_pool, None, 4, 0.0, 0.2, device)


def test_repeats_bitwise(device):
    q_pool, k_pool = (x.to(device) for x in pools())
    first, second = (ops.select_blocks(q_pool, k_pool, None, 4, 0.8, 0.2) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
