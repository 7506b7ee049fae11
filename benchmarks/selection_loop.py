"""Closed loop of selection: what each way to choose the kept blocks leaves of the dense run of the same noise.

`python -m benchmarks.selection_loop`: the demo model sampled with Euler, final latent against dense, PSNR in dB at cost
(closed_loop), mean over prompts. A column is a way to carve, a row a way to select. Those that do not ship are emulated
(selection_rules). Cost counts what is kept: two lists in a tile have more stages than that but in the row "stages of
one". Mass rules keep half of the column's share at least.
"""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks import selection_rules
from benchmarks.closed_loop import Carving, Row, measure
from benchmarks.common import print_head, print_row
from benchmarks.demo_model import DemoModel, add_options
from jenga import AnchorConfig, CarvedAttention


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


class Selecting(Carving):
    """Carving with another attention in the place of CarvedAttention: attention(config)."""

    def __init__(self, attention: Callable, model: DemoModel, *arguments, **options):
        super().__init__(model, *arguments, **options)
        self._carved = attention(self.config)


class ListsAnew(CarvedAttention):
    """Selects in every call, also where an anchor has left its lists."""

    def __call__(self, q, k, v, grid, *context):  # as AttentionInput.carve has it: lists, residual, tail_bias last
        return super().__call__(q, k, v, grid, *context[:4], residual=context[5] if context else None)


def by_error(spread: str) -> Callable:
    """Carving whose lists come from selection_rules.predicted_error."""

    def rule(q, k, v, number: int):
        return selection_rules.top(selection_rules.predicted_error(q, k, v, spread), number)

    return partial(Selecting, lambda config: selection_rules.RuledAttention(config, rule))


def rows(column: Column) -> list[Row]:
    """Every way to select, in this column's way to carve."""

    def row(name: str, kind=Carving, share: float = 1.0, **options) -> Row:
        return Row(name, lambda model: kind(model, column.share * share, column.anchors, **options))

    halved = partial(Selecting, selection_rules.HalvedLists)
    plain_tail = partial(selection_rules.RuledAttention, rule=selection_rules.shipped, weighs_tail=False)
    within = partial(Selecting, partial(selection_rules.HalvedLists, within=True))
    coarse, fine = CELLS["1 × 1"], CELLS["8 × 8"]
    return [
        *(row(f"cells {name}", score_cells=cells) for name, cells in CELLS.items()),
        row("cells 8 × 8, a tail cell counts as its tokens", partial(Selecting, plain_tail), score_cells=fine),
        row("cells 1 × 1, two lists", halved, score_cells=coarse),
        row("cells 8 × 8, two lists", halved, score_cells=fine),
        row("cells 8 × 8, two lists, stages of one", within, score_cells=fine),
        row("cells 1 × 1, tail 32", score_cells=coarse, tail_block_size=32),
        row("cells 8 × 8, tail 32", score_cells=fine, tail_block_size=32),
        *(row(f"cells 8 × 8, mass {p}", share=0.5, score_cells=fine, top_p=p) for p in (0.3, 0.5, 0.7)),
        *(row(f"error: {spread}", by_error(spread), score_cells=fine) for spread in selection_rules.SPREADS),
        row("cells 8 × 8, lists anew at every step", partial(Selecting, ListsAnew), score_cells=fine),
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
