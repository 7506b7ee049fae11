"""Open loop of the tail: error of the carved output by what a dropped tail cell counts as (tail_weights.py).

`python -m benchmarks.bench_tail_weights`: q, k, v of all layers in the middle of a dense run of the demo model are the
heads of one call (bench_matched_error.heads); lists are those of the shipped selection. Figures are relative L2 errors
against dense attention over all heads, on evenly spread query rows, computed in fp32.
"""

import argparse

import torch

from benchmarks import common, selection_rules
from benchmarks.bench_matched_error import add_grids, calls_on_grids, name_of
from benchmarks.demo_model import SIZES
from benchmarks.tail_weights import RULES, Tail
from jenga import CarvedAttention, JengaConfig, TokenGrid

SHARES = (0.03, 0.05, 0.1, 0.2)
TAILS = (64, 32)
ROWS = 512


def errors(grid: TokenGrid, q, k, v, tail_block_size: int) -> torch.Tensor:
    """float64 [SHARES, RULES]."""
    num_blocks = -(-grid.num_tokens // selection_rules.KV_BLOCK)
    lists = [CarvedAttention(JengaConfig(density=share))(q, k, v, grid).lists for share in SHARES]
    kept = [selection_rules.kept_mask(x, num_blocks) for x in lists]
    carved = selection_rules.in_curve_order(grid, q, k, v)
    places = torch.linspace(0, grid.num_tokens - 1, ROWS, device=q.device).round().long()
    squared, norm = torch.zeros(len(SHARES), len(RULES), dtype=torch.float64), 0.0
    for head in range(q.shape[1]):
        tail = Tail(*(x[0, head] for x in carved), places, tail_block_size)
        exact = tail.exact().double()
        norm += float(exact.square().sum())
        for column, rule in enumerate(RULES.values()):
            weights = rule(tail)
            for row, mask in enumerate(kept):
                out = tail.output(mask[0, head][places // selection_rules.Q_BLOCK], weights)
                squared[row, column] += float((out - exact).square().sum())
    return (squared / norm).sqrt()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_grids(parser)
    arguments = parser.parse_args()
    common.print_head("grid", "tail", "kept", *RULES)
    for call in calls_on_grids(arguments, (SIZES["full"],)):
        for tail in TAILS:
            for share, row in zip(SHARES, errors(*call, tail), strict=True):
                common.print_row(name_of(call[0]), tail, f"{share:.0%}", *(f"{error:.4f}" for error in row.tolist()))


if __name__ == "__main__":
    main()
