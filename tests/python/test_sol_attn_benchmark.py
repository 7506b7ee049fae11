"""benchmarks.sol_attn: the blocks that comfy-kitchen's sol_attn computes, as it tells itself."""

import math

import pytest
import torch

from benchmarks import sol_attn

TOKENS = 1000  # 15 whole blocks and a ragged one


@pytest.fixture(autouse=True)
def installed():
    if reason := sol_attn.refusal(torch.device("cpu")):
        pytest.skip(reason)


def random_qk(tokens: int, seed: int, heads: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, heads, tokens, 128, generator=generator) for _ in range(2)]


def expected_share(q, k, topk_ratio: float) -> float:
    """The best key blocks by the product of block means, and the band |i - j| <= 1."""
    blocks = math.ceil(q.shape[2] / 64)
    q, k = (torch.stack([x.mean(2) for x in tensor.split(64, dim=2)], dim=2) for tensor in (q, k))
    best = (q @ k.mT).topk(round(topk_ratio * blocks), dim=-1).indices
    computed = torch.zeros(*best.shape[:3], blocks, dtype=torch.bool).scatter_(3, best, True)
    number = torch.arange(blocks)
    return float((computed | ((number[:, None] - number).abs() <= 1)).double().mean())


@pytest.mark.parametrize("topk_ratio", (0.1, 0.3))
def test_computed_blocks_are_the_top_k_and_the_band(topk_ratio):
    q, k = random_qk(TOKENS, seed=1)
    share = sol_attn.computed_share(q, k, topk_ratio=topk_ratio)
    assert share == expected_share(q, k, topk_ratio)
    assert share > topk_ratio


def test_more_blocks_than_channels_are_counted_too():
    q, k = random_qk(130 * 64, seed=2, heads=1)
    assert sol_attn.computed_share(q, k, topk_ratio=0.2) == expected_share(q, k, 0.2)


def test_a_higher_threshold_computes_less_down_to_the_band():
    q, k = random_qk(TOKENS, seed=3)
    shares = [sol_attn.computed_share(q, k, tau=tau) for tau in (0.0, 1.0, 100.0)]
    assert shares[0] > shares[1] > shares[2] == (3 * 16 - 2) / 16**2


def test_a_run_is_counted_from_its_block_means():
    work, shares = sol_attn.Work(), []
    for seed in (4, 5):
        q, k = random_qk(TOKENS, seed)
        work.note(q, k)
        shares.append(expected_share(q, k, 0.2))
    assert work.share(topk_ratio=0.2) == pytest.approx(sum(shares) / 2)


def test_cost_counts_computed_blocks_and_a_column_for_every_other():
    assert sol_attn.cost(1.0) == 1.0
    assert sol_attn.cost(0.36) == pytest.approx(0.37)
