"""Open loop of selection: error of the carved call by score cells, on the demo model's own activations.

`python -m benchmarks.bench_selection`: q, k, v of all layers in the middle of a dense run are the heads of one call
(bench_matched_error.heads); figures are relative L2 errors against dense fp64 over all heads, on evenly spread query
rows. Lists come from the shipped operators; the oracle's from the exact attention of every query to every key. The last
columns say what rounding the means to bf16 does to the 8 × 8 lists: the share of listed blocks that differ from those
of fp32 means, and the error with those. A second table has the rules of selection_rules, beside the shipped one: by
predicted error, the oracle by error, and two lists in a tile, with the stages that they need over those of one list.
"""

import argparse

import torch

from benchmarks import common, selection_rules
from benchmarks.bench_matched_error import ROWS, add_grids, calls_on_grids, name_of
from benchmarks.demo_model import SIZES
from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving import reference
from jenga.carving.operands import BlockLists, ScoreCells

CELLS = ((1, 1), (2, 2), (4, 1), (1, 4), (4, 4), (8, 4), (8, 8))
SHARES = (0.05, 0.1, 0.2)
Q_BLOCK, KV_BLOCK = 128, 64


class Activations:
    """One call's q, k, v [1, H, N, D], and dense attention in fp64 of ROWS of its rows."""

    def __init__(self, grid: TokenGrid, q, k, v):
        self.grid, self.qkv = grid, (q, k, v)
        self._rows = torch.linspace(0, grid.num_tokens - 1, ROWS, device=q.device).round().long()
        heads = [common.dense_fp64(*(x[:, h : h + 1] for x in self.qkv), self._rows) for h in range(q.shape[1])]
        self._exact = torch.cat(heads, 1)
        self.carved = selection_rules.in_curve_order(grid, q, k, v)

    def error(self, share: float, cells=(1, 1), lists: BlockLists | None = None) -> tuple[float, BlockLists]:
        """Relative L2 error of the carved call, and its lists: `lists` where given, else selected with `cells`."""
        config = JengaConfig(density=share, score_cells=cells, precision="16-bit")
        result = CarvedAttention(config)(*self.qkv, self.grid, lists=lists)
        return self.error_of(result.out), result.lists

    def error_of(self, out: torch.Tensor) -> float:
        return common.relative_error(out[:, :, self._rows], self._exact)

    def exact_lists(self, cell_sizes: tuple[int, int], share: float) -> BlockLists:
        """Lists from fp32 means of cells of so many tokens; (1, 1): from the attention of every query to every key."""
        means = (reference.block_means(x, size) for x, size in zip(self.carved[:2], cell_sizes, strict=True))
        num_video, scale = self.grid.num_tokens, self.carved[0].shape[-1] ** -0.5
        cells = ScoreCells(num_video, Q_BLOCK, KV_BLOCK, Q_BLOCK // cell_sizes[0], KV_BLOCK // cell_sizes[1])
        number = common.kept_blocks(share, -(-num_video // KV_BLOCK))
        return reference.select_blocks(*means, None, cells, number, 0.0, scale)


def difference(one: BlockLists, other: BlockLists, num_blocks: int) -> float:
    """The share of listed blocks of `one` that are not in `other`."""
    listed, there = (selection_rules.kept_mask(x, num_blocks) for x in (one, other))
    return float((listed & ~there).sum() / listed.sum())


def print_cells(calls: dict[str, Activations]) -> None:
    cells_named = (f"{a} × {b}" for a, b in CELLS)
    common.print_head("grid", "kept", *cells_named, "oracle", "lists changed by bf16 means", "error with fp32 means")
    for name, call in calls.items():
        for share in SHARES:
            figures = [call.error(share, cells) for cells in CELLS]
            oracle, _ = call.error(share, lists=call.exact_lists((1, 1), share))
            fp32_lists = call.exact_lists((16, 8), share)
            changed = difference(figures[-1][1], fp32_lists, -(-call.grid.num_tokens // KV_BLOCK))
            row = [f"{error:.3f}" for error, _ in figures] + [f"{oracle:.3f}", f"{changed:.2%}"]
            row.append(f"{call.error(share, lists=fp32_lists)[0]:.3f}")
            common.print_row(name, f"{share:.0%}", *row)


def print_rules(calls: dict[str, Activations]) -> None:
    halved = {"two lists": False, "in the stages of one": True}
    spreads = (f"error: {spread}" for spread in selection_rules.SPREADS)
    columns = ("8 × 8", *spreads, "error oracle", *halved, "union as one list", "stages", "stages with 1 × 1")
    common.print_head("grid", "kept", *columns)
    for name, call in calls.items():
        scores = [selection_rules.predicted_error(*call.carved, spread) for spread in selection_rules.SPREADS]
        scores.append(selection_rules.exact_error(*call.carved))
        ranks = [
            selection_rules.better_rank(*selection_rules.half_scores(*call.carved[:2], *cells))
            for cells in ((8, 8), (1, 1))
        ]
        scores.append(-ranks[0])
        for share in SHARES:
            number = common.kept_blocks(share, ranks[0].shape[-1])
            *by_error, union = (call.error(share, lists=selection_rules.top(x, number))[0] for x in scores)
            two = [selection_rules.HalvedLists(JengaConfig(density=share), within) for within in halved.values()]
            two = [call.error_of(attention(*call.qkv, call.grid).out) for attention in two]
            row = [call.error(share, (8, 8))[0], *by_error, *two, union]
            stages = (f"{selection_rules.stages(rank, number):.2f}" for rank in ranks)
            common.print_row(name, f"{share:.0%}", *(f"{error:.4f}" for error in row), *stages)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_grids(parser)
    on_grids = calls_on_grids(parser.parse_args(), (SIZES["full"],))
    calls = {name_of(call[0]): Activations(*call) for call in on_grids}
    print_cells(calls)
    print()
    print_rules(calls)


if __name__ == "__main__":
    main()
