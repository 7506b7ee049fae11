"""tail_bias: the formula of kernels/params.h, and that carved attention asks for it and keeps it with its lists."""

import math

import oracles
import pytest
import torch

from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving import ops, reference

GRID = TokenGrid(5, 9, 13)


def draw_means(num_video, q_cell_size, k_cell_size, dtype, head_dim=64, batch=2, heads=3):
    generator = torch.Generator().manual_seed(0)
    numbers = (oracles.ceil_div(num_video, size) for size in (q_cell_size, k_cell_size))
    return [torch.randn(batch, heads, n, head_dim, generator=generator).to(dtype) for n in numbers]


def check(means, *sizes, device, scale=0.2):
    exact = oracles.tail_bias(*means, *sizes, scale)
    found = ops.tail_bias(*(x.to(device) for x in means), *sizes, scale)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.cpu().double(), exact, rtol=1e-6, atol=1e-4)
    plain = reference.tail_bias(*means, *sizes, scale)
    torch.testing.assert_close(plain.double(), exact, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("sizes", [(8, 64), (8, 32), (8, 16), (16, 64), (16, 128), (32, 64), (64, 128)], ids=str)
@pytest.mark.parametrize("num_video", [1, 7, 63, 641, 1190, 5000])
def test_sizes(num_video, sizes, kernel_dtype, device, poisoned_outputs):
    check(draw_means(num_video, 16, sizes[0], kernel_dtype), num_video, *sizes, device=device)


@pytest.mark.parametrize("q_cell_size", [16, 32, 128])
@pytest.mark.parametrize("head_dim", [8, 40, 96, 128, 192, 256])
def test_head_dims_and_query_cells(head_dim, q_cell_size, kernel_dtype, device, poisoned_outputs):
    means = draw_means(2291, q_cell_size, 8, kernel_dtype, head_dim)
    check(means, 2291, 8, 64, device=device, scale=head_dim**-0.5)


def test_peaked_scores(kernel_dtype, device):
    """Of one key cell that takes all: no weight is lost below it."""
    check(draw_means(1190, 16, 8, kernel_dtype), 1190, 8, 64, device=device, scale=20.0)


def test_equal_keys_count_as_their_tokens(kernel_dtype, device):
    q_means, k_means = draw_means(1190, 16, 8, kernel_dtype)
    bias = ops.tail_bias(q_means.to(device), k_means[:, :, :1].expand_as(k_means).to(device), 1190, 8, 64, 0.2)
    counts = torch.tensor([64.0] * 18 + [1190.0 % 64])
    torch.testing.assert_close(bias.cpu(), counts.log().expand_as(bias), rtol=0, atol=2e-5)


def test_means_of_any_strides(kernel_dtype, device):
    means = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in draw_means(1190, 16, 8, kernel_dtype)]
    check(means, 1190, 8, 64, device=device)


def test_repeats_bitwise(kernel_dtype, device):
    means = [x.to(device) for x in draw_means(5000, 16, 8, kernel_dtype)]
    assert torch.equal(*(ops.tail_bias(*means, 5000, 8, 64, 0.2) for _ in range(2)))


def attend(device, config, **state):
    generator = torch.Generator().manual_seed(1)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    q, k, v = (torch.randn(1, 2, GRID.num_tokens, 64, generator=generator).to(device, dtype) for _ in range(3))
    return CarvedAttention(config)(q, k, v, GRID, **state)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_result_says_what_its_tail_counted_as(backend, device):
    config = JengaConfig(density=0.3, backend=backend)
    result = attend(device, config)
    assert (result.tail_bias[..., :-1] > math.log(64)).all() and (result.tail_bias[..., -1] > math.log(585 % 64)).all()
    again = attend(device, config, lists=result.lists, tail_bias=result.tail_bias)
    assert torch.equal(again.out, result.out) and again.tail_bias is result.tail_bias
    as_tokens = attend(device, config, lists=result.lists)
    assert as_tokens.tail_bias is None and not torch.equal(as_tokens.out, result.out)


@pytest.mark.parametrize(
    "config",
    [
        JengaConfig(compensation="none"),
        JengaConfig(score_cells=(1, 1)),
        JengaConfig(kv_block_size=128, tail_block_size=32, score_cells=(8, 4)),
        JengaConfig.published(0.7, 0.3),
    ],
    ids=["no tail", "one cell a block", "tail cells of one key cell", "published"],
)
def test_a_tail_without_parts_counts_as_its_tokens(config, device):
    assert attend(device, config).tail_bias is None


def test_it_must_come_with_lists(device):
    bias = attend(device, JengaConfig()).tail_bias
    with pytest.raises(ValueError, match="carved_attention: tail_bias must come with lists, got it alone"):
        attend(device, JengaConfig(), tail_bias=bias)
