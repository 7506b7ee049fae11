"""The rules of selection that benchmarks.selection_rules emulates."""

import pytest
import torch

from benchmarks import selection_rules as rules
from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving import reference
from jenga.carving.operands import BlockLists, ScoreCells

GRID = TokenGrid(5, 9, 13)  # 585 tokens: five query blocks, the last with one half; ten key blocks, the last ragged


def qkv(heads: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, heads, GRID.num_tokens, 32, generator=generator) for _ in range(3)]


def listed(lists: BlockLists, num_blocks: int) -> torch.Tensor:
    mask = torch.zeros(*lists.index.shape[:3], num_blocks + 1, dtype=torch.bool)
    return mask.scatter_(-1, lists.index.long() % (num_blocks + 1), True)[..., :num_blocks]


def test_top_lists_what_select_blocks_does():
    q, k, _ = qkv()
    cells = ScoreCells(GRID.num_tokens, 128, 64, 8, 8)
    means = reference.block_means(q, 16), reference.block_means(k, 8)
    scale = 32**-0.5
    expected = reference.select_blocks(*means, None, cells, 3, 0.0, scale)
    got = rules.top(reference.block_scores(*means, cells, scale), 3)
    assert torch.equal(got.index, expected.index) and torch.equal(got.count, expected.count)


def test_top_takes_a_number_for_every_row():
    scores = torch.tensor([[[[1.0, 3.0, 3.0, 0.0], [4.0, 1.0, 2.0, 3.0]]]])
    lists = rules.top(scores, torch.tensor([[[1, 3]]]))
    assert lists.index.tolist() == [[[[1, -1, -1], [0, 2, 3]]]] and lists.count.tolist() == [[[1, 3]]]


def test_the_exact_error_is_what_dropping_a_block_costs():
    q, k, v = qkv(1)
    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    carved = CarvedAttention(JengaConfig(backend="reference", curve="raster"))
    errors = rules.exact_error(q, k, v)
    for dropped in (0, 4, 9):
        index = torch.tensor([i for i in range(10) if i != dropped], dtype=torch.int32).expand(1, 1, 5, 9)
        lists = BlockLists(index.contiguous(), torch.full((1, 1, 5), 9, dtype=torch.int32))
        change = (carved(q, k, v, GRID, lists=lists).out - dense).square().sum(-1)
        change = torch.nn.functional.pad(change, (0, -GRID.num_tokens % 128)).unflatten(-1, (-1, 128)).sum(-1)
        torch.testing.assert_close(errors[..., dropped], change, rtol=1e-3, atol=1e-7)


def test_the_error_of_means_is_exact_where_every_cell_is_its_mean():
    def flat(x, size):
        means = reference.block_means(x, size)
        return means.repeat_interleave(size, 2)[:, :, : GRID.num_tokens]

    q, k, v = qkv()
    q, k, v = flat(q, 16), flat(k, 8), flat(v, 8)
    predicted, exact = rules.predicted_error(q, k, v, "cells as means"), rules.exact_error(q, k, v)
    # The exact one divides by what is left of the softmax, within a few per cent of 1 here.
    torch.testing.assert_close(predicted, exact, rtol=0.1, atol=1e-6)


@pytest.mark.parametrize("spread", rules.SPREADS[1:3])
def test_a_block_of_equal_values_is_expected_to_cost_nothing(spread):
    q, k, v = qkv()
    v[:, :, 64:128] = v[:, :, 64:65]
    error = rules.predicted_error(q, k, v, spread)
    assert error[..., 1].max() < 1e-5 * error[..., 0].min()


def test_lists_within_the_stages_of_one_fill_them():
    q, k, _ = qkv()
    first, second = rules.half_scores(q, k, 8, 8)
    assert first.shape == second.shape == (1, 2, 5, 10)
    rank = rules.better_rank(first, second)
    for number in (1, 3, 10):
        count = rules.number_within(rank, number)
        union = sum(listed(rules.top(x, count), 10).int() for x in (first, second)).clamp_max(1).sum(-1)
        more = (count + 1).clamp_max(10)
        longer = sum(listed(rules.top(x, more), 10).int() for x in (first, second)).clamp_max(1).sum(-1)
        assert (union <= number).all() and ((longer > number) | (count == 10)).all()
        both = listed(rules.top(first, number), 10) | listed(rules.top(second, number), 10)
        assert rules.stages(rank, number) == pytest.approx(float(both.sum(-1).double().mean()) / number)


def test_every_row_of_two_lists_attends_its_own_half_list():
    q, k, v = qkv()
    config = JengaConfig(density=0.3, backend="reference")
    result = rules.HalvedLists(config)(q, k, v, GRID)
    assert result.lists.count.shape == (1, 2, 10) and (result.lists.count == 3).all()
    whole = torch.stack(rules.half_scores(*rules.in_curve_order(GRID, q, k), 8, 8), 3)
    for half in (0, 1):
        rows = rules.in_curve_order(GRID, torch.arange(float(GRID.num_tokens))[None, None, :, None])[0].flatten().long()
        rows = rows[torch.arange(GRID.num_tokens) // 64 % 2 == half]
        lists = rules.top(whole[:, :, :, half], 3)
        alone = CarvedAttention(config)(q, k, v, GRID, lists=lists, tail_bias=result.tail_bias)
        assert torch.equal(result.out[:, :, rows], alone.out[:, :, rows])


def test_a_rule_makes_the_lists_unless_they_are_given():
    q, k, v = qkv()
    attention = rules.RuledAttention(JengaConfig(density=0.3, backend="reference"), rules.union_as_one_list)
    result = attention(q, k, v, GRID)
    assert (result.lists.count == 3).all()
    again = attention(q, k, v, GRID, 0, None, None, None, result.lists, None, result.tail_bias)
    assert torch.equal(again.out, result.out)


def test_the_shipped_rule_is_the_shipped_call():
    q, k, v = qkv()
    config = JengaConfig(density=0.3, backend="reference")
    expected = CarvedAttention(config)(q, k, v, GRID)
    result = rules.RuledAttention(config, rules.shipped)(q, k, v, GRID)
    assert torch.equal(result.lists.index, expected.lists.index)
    torch.testing.assert_close(result.out, expected.out, rtol=0, atol=1e-6)
    as_tokens = rules.RuledAttention(config, rules.shipped, weighs_tail=False)(q, k, v, GRID)
    assert torch.equal(as_tokens.lists.index, expected.lists.index) and as_tokens.tail_bias is None


@pytest.mark.parametrize("spread", rules.SPREADS[4:])
def test_a_block_of_equal_keys_is_in_the_tail_as_it_is(spread):
    q, k, v = qkv()
    k[:, :, 64:128] = k[:, :, 64:65]
    error = rules.predicted_error(q, k, v, spread)
    assert error[..., 1].max() < 1e-3 * error[..., 0].min()
