"""Pre-pass and selection alone: milliseconds by score cells, and their share of a dense and of a carved call.

Figures of one case take turns, so that they can be compared. --cells takes a number of query cells and one of key cells
and may repeat.
"""

from benchmarks import common
from benchmarks.common import cases
from jenga import JengaConfig, TokenGrid
from jenga.carving import ops
from jenga.carving.attention import CarvedAttention
from jenga.carving.operands import CarvedLayout

KV_BLOCK = TAIL = 64
CELLS = ((1, 1), (2, 2), (4, 4), (8, 4), (8, 8))


def add_selection(statements: dict, case: cases.Case, q, k, v, cells: tuple[int, int], shares) -> None:
    """Adds the calls ("pre-pass" | "top-k" | "top-p", cells[, share])."""
    token_index, scale = cases.token_index(case).to(q.device), case.head_dim**-0.5
    layout = CarvedLayout(token_index, case.num_context, common.Q_BLOCK, KV_BLOCK, TAIL, *cells)

    def prepare():
        return ops.prepare_blocks(q, k, v, layout)

    blocks = prepare()
    means = (blocks.q_means, blocks.k_means)
    statements["pre-pass", cells] = prepare
    for share in shares:
        number = common.kept_blocks(share, case.blocks(KV_BLOCK))
        for name, top_p in (("top-k", 0.0), ("top-p", 0.5)):
            statements[name, cells, share] = lambda number=number, top_p=top_p: ops.select_blocks(
                *means, None, layout.cells(case.num_video), number, top_p, scale
            )


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--cells", type=int, nargs=2, action="append", metavar=("QUERY", "KEY"))
    arguments = parser.parse_args()
    shares = [share for share in arguments.kept or common.KEPT_SHARES if share < 1]
    listed = [tuple(cells) for cells in arguments.cells or CELLS]
    common.print_head(
        *("case", "dtype", "cells", "kept", "pre-pass ms", "top-k ms", "top-p ms"),
        *("pre-pass + top-k, of dense", "of the carved call"),
    )
    for case, dtype in common.selected(arguments):
        q, k, v = common.structured_qkv(case, dtype, arguments.device)
        dense = common.dense_calls(q, k, v)
        statements = dict(dense)
        for cells in listed:
            add_selection(statements, case, q, k, v, cells, shares)
            for share in shares:
                carved = CarvedAttention(JengaConfig(density=share, score_cells=cells))
                grid = TokenGrid(*case.grid)
                statements["carved", cells, share] = lambda carved=carved, grid=grid: carved(q, k, v, grid, case.before)
        seconds = common.median_seconds(statements, arguments.seconds)
        for cells in listed:
            for share in shares:
                taken = [seconds["pre-pass", cells], *(seconds[name, cells, share] for name in ("top-k", "top-p"))]
                before = taken[0] + taken[1]
                row = [f"{x * 1e3:.3f}" for x in taken]
                row.append(f"{before / min(seconds[name] for name in dense):.2%}")
                row.append(f"{before / seconds['carved', cells, share]:.2%}")
                common.print_row(case.name, dtype, f"{cells[0]} × {cells[1]}", f"{share:.0%}", *row)


if __name__ == "__main__":
    main()
