"""curve_order and block_adjacency as operators. The curves themselves are tested in tests/cpp/core."""

import pytest
import torch

from jenga.carving import ops

GRIDS = [(1, 1, 1), (3, 4, 5), (5, 9, 13), (1, 16, 16), (7, 1, 2)]


@pytest.mark.parametrize("curve", ["gilbert3d", "gilbert2d_sliced", "raster"])
@pytest.mark.parametrize("grid", GRIDS)
def test_order_is_a_permutation(grid, curve):
    order = ops.curve_order(*grid, curve)
    assert order.dtype == torch.int32 and order.device.type == "cpu"
    assert torch.equal(order.long().sort().values, torch.arange(grid[0] * grid[1] * grid[2]))


def test_raster_is_the_identity():
    assert torch.equal(ops.curve_order(3, 4, 5, "raster"), torch.arange(60, dtype=torch.int32))


def test_gilbert3d_takes_unit_steps():
    order = ops.curve_order(4, 6, 8, "gilbert3d").long()
    coordinates = torch.stack([order // 48, order // 8 % 6, order % 8], dim=1)
    assert (coordinates.diff(dim=0).abs().sum(1) == 1).all()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("block_size", [1, 16, 128])
def test_adjacency_is_symmetric_with_a_true_diagonal(grid, block_size):
    adjacency = ops.block_adjacency(*grid, "gilbert3d", block_size)
    blocks = -(-grid[0] * grid[1] * grid[2] // block_size)
    assert adjacency.dtype == torch.bool and adjacency.shape == (blocks, blocks)
    assert torch.equal(adjacency, adjacency.T) and adjacency.diagonal().all()
