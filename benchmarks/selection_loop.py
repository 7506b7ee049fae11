"""Closed loop of selection: what each way to choose the kept blocks leaves of the dense run of the same noise.

`python -m benchmarks.selection_loop`: the demo model sampled with Euler, final latent against dense, PSNR in dB at cost
(closed_loop), mean over prompts. A column is a way to carve, a row a way to select. "two lists" selects for each half
of a query block alone and attends twice, once with either list; its rows then come from the half that they are in, as a
kernel with two lists in a tile would give them. Mass rules keep half of the column's share at least.
"""

import argparse
import re
from dataclasses import dataclass, replace

import torch

from benchmarks.closed_loop import Carving, Row, measure
from benchmarks.common import print_head, print_row
from benchmarks.demo_model import DemoModel, add_options
from jenga import AnchorConfig, CarvedAttention, JengaConfig
from jenga.carving import ops, reference
from jenga.carving.config import Q_BLOCK_SIZE
from jenga.carving.operands import BlockLists, ScoreCells

HALF = 64  # queries of a half of a query block


@dataclass(frozen=True)
class Column:
    name: str
    steps: int
    share: float
    anchors: AnchorConfig | None


COLUMNS = (
    Column("anchored 5 %, A = 8, 30 steps", 30, 0.05, AnchorConfig(8)),
    Column("anchored 10 %, A = 8, 30 steps", 30, 0.1, AnchorConfig(8)),
    Column("anchored 10 %, first of 6 steps", 6, 0.1, AnchorConfig(0)),
    Column("carving 20 %, 30 steps", 30, 0.2, None),
)
CELLS = {"1 × 1": (1, 1), "2 × 2": (2, 2), "4 × 4": (4, 4), "8 × 4": (8, 4), "8 × 8": (8, 8)}


class HalvedLists:
    """A CarvedAttention with a list for every 64 queries; its lists [B, H, 2 nq, ...] are those of the halves."""

    def __init__(self, config: JengaConfig):
        self.config, self._carved = config, CarvedAttention(config)
        self.pack_residual = self._carved.pack_residual

    def __call__(self, q, k, v, grid, *context, lists=None, residual=None):
        *context, lists, residual = context if len(context) == 6 else (*context, lists, residual)
        order = ops.curve_order(grid.t, grid.h, grid.w).to(q.device)
        lists = lists or self._select(q, k, order)
        halves = (BlockLists(*(x[:, :, half::2].contiguous() for x in lists)) for half in (0, 1))
        first, second = (self._carved(q, k, v, grid, *context, lists=x, residual=residual) for x in halves)
        in_second = torch.empty_like(order, dtype=torch.bool)
        in_second[order.long()] = torch.arange(len(order), device=q.device) // HALF % 2 == 1
        out = torch.where(in_second[:, None], second.out, first.out)
        return replace(first, out=out, lists=lists, kept_share=(first.kept_share + second.kept_share) / 2)

    def _select(self, q, k, order) -> BlockLists:
        config, tokens = self.config, len(order)
        q_cells, k_cells = config.score_cells
        q_size, k_size = min(Q_BLOCK_SIZE // q_cells, HALF), config.kv_block_size // k_cells
        carved = (reference.reorder_tokens(x, order) for x in (q, k))
        means = (reference.block_means(x, size) for x, size in zip(carved, (q_size, k_size), strict=True))
        cells = ScoreCells(tokens, HALF, config.kv_block_size, HALF // q_size, k_cells)
        rule = (config.min_blocks(tokens), config.top_p, q.shape[-1] ** -0.5)
        lists = reference.select_blocks(*means, None, cells, *rule)
        if lists.count.shape[2] % 2:  # the last query block has no second half
            lists = BlockLists(*(torch.cat([x, x[:, :, -1:]], 2) for x in lists))
        return lists


class Halved(Carving):
    """Carving with HalvedLists."""

    def __init__(self, model: DemoModel, *arguments, **options):
        super().__init__(model, *arguments, **options)
        self._carved = HalvedLists(self.config)


def rows(column: Column) -> list[Row]:
    """Every way to select, in this column's way to carve."""

    def row(name: str, kind=Carving, share: float = 1.0, **options) -> Row:
        return Row(name, lambda model: kind(model, column.share * share, column.anchors, **options))

    coarse, fine = CELLS["1 × 1"], CELLS["8 × 8"]
    return [
        *(row(f"cells {name}", score_cells=cells) for name, cells in CELLS.items()),
        row("cells 1 × 1, two lists", Halved, score_cells=coarse),
        row("cells 8 × 8, two lists", Halved, score_cells=fine),
        row("cells 1 × 1, tail 32", score_cells=coarse, tail_block_size=32),
        row("cells 8 × 8, tail 32", score_cells=fine, tail_block_size=32),
        *(row(f"cells 8 × 8, mass {p}", share=0.5, score_cells=fine, top_p=p) for p in (0.3, 0.5, 0.7)),
    ]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--only", default="", help="only rows whose name this regular expression finds")
    parser.add_argument("--columns", type=int, nargs="*", default=range(len(COLUMNS)), help="which, from 0")
    arguments = parser.parse_args()
    model = DemoModel(arguments.size, arguments.device)
    columns = [COLUMNS[i] for i in arguments.columns]
    prompts = range(arguments.prompts)
    dense = {steps: [model.sample(i, steps).cpu() for i in prompts] for steps in {c.steps for c in columns}}
    print(f"{model.grid.num_tokens} tokens, {arguments.prompts} prompts, {arguments.device}\n")
    print_head("selection", *(column.name for column in columns))
    for ways in zip(*map(rows, columns), strict=True):
        if not re.search(arguments.only, ways[0].name):
            continue
        figures = []
        for column, way in zip(columns, ways, strict=True):
            cost, _, psnr, _ = measure(model, way, dense[column.steps], column.steps)
            figures.append(f"{psnr:.2f} at {cost:.3f}")
        print_row(ways[0].name, *figures)


if __name__ == "__main__":
    main()
