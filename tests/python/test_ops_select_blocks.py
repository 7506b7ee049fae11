"""select_blocks: the rule of kernels/params.h, its ties, and the shape of its lists."""

import oracles
import pytest
import torch

from jenga.carving import ops, reference

CELLS = [(1, 1), (2, 8), (4, 4), (8, 1), (8, 8)]


def dtype_for(device):
    return torch.float32 if device == "cpu" else torch.bfloat16


def draw_means(sizes, device, head_dim=64, batch=2, heads=3, dtype=None, seed=0):
    """q_means, k_means of sizes = (num_video, q_block_size, kv_block_size, q_cells, k_cells), on the CPU."""
    num_video, q_block_size, kv_block_size, q_cells, k_cells = sizes
    generator = torch.Generator().manual_seed(seed)
    numbers = (
        oracles.ceil_div(num_video * q_cells, q_block_size),
        oracles.ceil_div(num_video * k_cells, kv_block_size),
    )
    drawn = (torch.randn(batch, heads, n, head_dim, generator=generator) for n in numbers)
    return tuple(x.to(dtype or dtype_for(device)) for x in drawn)


def check(means, adjacency, sizes, min_blocks, top_p, scale, device):
    on_device = (None if x is None else x.to(device) for x in (*means, adjacency))
    index, count = (x.cpu() for x in ops.select_blocks(*on_device, sizes, min_blocks, top_p, scale))
    kept = oracles.select_blocks(*means, adjacency, sizes, min_blocks, top_p, scale)
    num_kv = kept.shape[-1]
    assert index.shape[-1] == (num_kv if top_p > 0 or adjacency is not None else min(min_blocks, num_kv))
    assert index.dtype == count.dtype == torch.int32
    assert torch.equal(count, kept.sum(-1, dtype=torch.int32))
    listed = torch.arange(index.shape[-1]) < count[..., None]
    assert (index[~listed] == -1).all()
    assert (index.diff(dim=-1)[listed[..., 1:]] > 0).all()
    assert torch.equal(oracles.lists_to_mask(index, count, num_kv), kept)


@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("min_blocks", [1, 5, 19, 50])
@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("with_adjacency", [False, True])
def test_rule(min_blocks, top_p, with_adjacency, cells, device, poisoned_outputs):
    sizes = (1190, 128, 64, *cells)
    adjacency = torch.rand(10, 19, generator=torch.Generator().manual_seed(3)) < 0.2 if with_adjacency else None
    check(draw_means(sizes, device), adjacency, sizes, min_blocks, top_p, 0.3, device)


@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("kv_block_size", [64, 128])
@pytest.mark.parametrize("num_video", [1, 7, 64, 129, 1000, 1024])
def test_sizes(num_video, kv_block_size, cells, kernel_dtype, device, poisoned_outputs):
    sizes = (num_video, 128, kv_block_size, *cells)
    means = draw_means(sizes, device, heads=1, dtype=kernel_dtype)
    number = max(1, num_video // kv_block_size // 5)
    check(means, None, sizes, number, 0.0, 0.2, device)
    check(means, None, sizes, number, 0.5, 0.2, device)


@pytest.mark.parametrize("head_dim", [8, 40, 96, 128, 192, 256])
@pytest.mark.parametrize("cells", [(1, 1), (4, 2), (8, 8)])
def test_head_dims(head_dim, cells, device, poisoned_outputs):
    sizes = (2900, 128, 64, *cells)
    check(draw_means(sizes, device, head_dim, batch=1), None, sizes, 9, 0.0, head_dim**-0.5, device)


@pytest.mark.parametrize("head_dim", [64, 128])
def test_many_heads_have_the_lists_that_each_has_alone(head_dim, device, poisoned_outputs):
    """A GPU's thread blocks share what all heads need: with so many, each has parts of several."""
    sizes = (5900, 128, 64, 8, 8)
    means = [x.to(device) for x in draw_means(sizes, device, head_dim, batch=1, heads=90)]
    together = ops.select_blocks(*means, None, sizes, 9, 0.3, 0.2)
    for head in range(90):
        alone = ops.select_blocks(*(x[:, head : head + 1] for x in means), None, sizes, 9, 0.3, 0.2)
        for all_heads, one in zip(together, alone, strict=True):
            assert torch.equal(all_heads[:, head : head + 1], one)


@pytest.mark.parametrize("cells", CELLS)
def test_ties_go_to_the_lower_index(cells, device):
    sizes = (40 * 64, 128, 64, *cells)
    q_means, k_means = draw_means(sizes, device)
    q_means.fill_(1.0)
    k_means.zero_()
    k_means[:, :, 30 * cells[1] : 31 * cells[1]] = 1.0
    index, count = ops.select_blocks(q_means.to(device), k_means.to(device), None, sizes, 4, 0.0, 0.5)
    assert (index.cpu() == torch.tensor([0, 1, 2, 30])).all()
    assert (count == 4).all()


def test_a_block_is_seen_whose_mean_says_nothing(device):
    """Keys that cancel out in the mean of their block: one cell of it holds what a query cell looks for."""
    sizes = (20 * 64, 128, 64, 8, 8)
    q_means, k_means = (torch.zeros(1, 1, n, 8, dtype=dtype_for(device)) for n in (80, 160))
    q_means[:, :, 3, 0] = 4.0
    k_means[:, :, 8 * 13 + 2, 0], k_means[:, :, 8 * 13 + 5, 0] = 4.0, -4.0
    index, _ = ops.select_blocks(q_means.to(device), k_means.to(device), None, sizes, 1, 0.0, 1.0)
    assert index[0, 0, 0].tolist() == [13]
    coarse = reference.block_means(q_means, 8), reference.block_means(k_means, 8)
    coarse = [x.to(q_means.dtype).to(device) for x in coarse]
    index, _ = ops.select_blocks(*coarse, None, (20 * 64, 128, 64, 1, 1), 1, 0.0, 1.0)
    assert index[0, 0, 0].tolist() == [0]


def test_means_of_any_strides(device):
    sizes = (1190, 128, 64, 4, 4)
    means = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in draw_means(sizes, device)]
    check(means, None, sizes, 4, 0.0, 0.2, device)


@pytest.mark.parametrize("cells", CELLS)
def test_repeats_bitwise(cells, device):
    sizes = (1190, 128, 64, *cells)
    means = [x.to(device) for x in draw_means(sizes, device)]
    first, second = (ops.select_blocks(*means, None, sizes, 4, 0.8, 0.2) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
