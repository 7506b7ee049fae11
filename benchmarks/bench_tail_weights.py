"""Open loop of the tail: error of the carved output by what a dropped tail cell counts as (tail_weights.py).

`python -m benchmarks.bench_tail_weights`: q, k, v of all layers in the middle of a dense run of the demo model are the
heads of one call (bench_matched_error.heads); lists are those of the shipped selection. Figures are relative L2 errors
against dense attention over all heads, on evenly spread query rows, computed in fp32.
"""

import argparse

import torch

from benchmarks import common, selection_rules
from benchmarks.bench_matched_error import heads
from benchmarks.demo_model import SIZES, DemoModel
from benchmarks.tail_weights import WEIGHTS, Tail
from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving.operands import BlockLists

SHARES = (0.03, 0.05, 0.1, 0.2)
TAILS = (64, 32)
ROWS = 512


def kept_rows(lists: BlockLists, head: int, places: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """bool [R, key blocks]: what the lists of one head keep for the query rows at these places."""
    index, count = (x[0, head][places // selection_rules.Q_BLOCK] for x in lists)
    listed = torch.arange(index.shape[-1], device=index.device) < count[:, None]
    num_blocks = -(-num_tokens // selection_rules.KV_BLOCK)
    kept = torch.zeros(len(places), num_blocks + 1, dtype=torch.bool, device=index.device)
    kept.scatter_(1, torch.where(listed, index, num_blocks).long(), True)  # what is not listed lands behind them
    return kept[:, :-1]


def errors(grid: TokenGrid, q, k, v, share: float, tail_block_size: int) -> list[float]:
    """One for each of WEIGHTS."""
    lists = CarvedAttention(JengaConfig(density=share))(q, k, v, grid).lists
    carved = selection_rules.in_curve_order(grid, q, k, v)
    places = torch.linspace(0, grid.num_tokens - 1, ROWS, device=q.device).round().long()
    squared, norm = torch.zeros(len(WEIGHTS), dtype=torch.float64), 0.0
    for head in range(q.shape[1]):
        tail = Tail(*(x[0, head] for x in carved), places, tail_block_size)
        exact, kept = tail.exact().double(), kept_rows(lists, head, places, grid.num_tokens)
        norm += float(exact.square().sum())
        squared += torch.stack([(tail.output(kept, x) - exact).square().sum().cpu() for x in WEIGHTS])
    return (squared / norm).sqrt().tolist()


def print_table(grids: dict[str, tuple], tails=TAILS, shares=SHARES) -> None:
    common.print_head("grid", "tail", "kept", *WEIGHTS)
    for name, call in grids.items():
        for tail in tails:
            for share in shares:
                common.print_row(name, tail, f"{share:.0%}", *(f"{x:.4f}" for x in errors(*call, share, tail)))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--grid", type=int, nargs=3, action="append", metavar=("T", "H", "W"), help="may repeat")
    arguments = parser.parse_args()
    model = DemoModel("full", arguments.device)
    calls = {}
    for sides in arguments.grid or (SIZES["full"],):
        model.grid = TokenGrid(*sides)
        calls[" × ".join(map(str, sides))] = (model.grid, *heads(model))
    print_table(calls)


if __name__ == "__main__":
    main()
