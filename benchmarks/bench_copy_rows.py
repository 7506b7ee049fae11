"""What it takes home to make heads gapless for another device and to join outputs: our kernel and torch's copies.

`python -m benchmarks.bench_copy_rows`: q, k and v of some heads of a projection, [B, S, H * D], to memory of their own,
and the output of so many heads to its place among all. GB/s counts what is read and what is written.
"""

from collections.abc import Sequence
from functools import partial

import torch

from benchmarks.common import DTYPES, median_seconds, parser, print_head, print_row, selected
from jenga.runtime.lane import copy_rows, copy_rows_by_torch

PIECES = (2, 3, 12)  # heads of a piece: the shortest of 24 heads over two devices, one between, and home's own


def by_elements(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


WAYS = {"torch": by_elements, "torch, 16 bytes": copy_rows_by_torch, "jenga": copy_rows}


def moves(case, dtype: torch.dtype, device: str, heads: int) -> dict[str, tuple]:
    """Name -> targets and sources [1, heads, S, D]."""
    of_all = [torch.randn(1, case.tokens, case.heads, case.head_dim, device=device, dtype=dtype) for _ in range(3)]
    some = [x[:, :, -heads:].transpose(1, 2) for x in of_all]
    alone = [torch.empty(1, case.tokens, heads, case.head_dim, device=device, dtype=dtype) for _ in range(3)]
    gapless = [x.transpose(1, 2) for x in alone]
    return {"packed": (gapless, some), "joined": (some[:1], gapless[:1])}


def main() -> None:
    arguments = parser(__doc__.splitlines()[0]).parse_args()
    for case, dtype in selected(arguments):
        print(f"\n### {case.name}, {dtype}\n", flush=True)
        print_head("heads", "what", *(f"{way}, ms a head" for way in WAYS), *(f"{way}, GB/s" for way in WAYS))
        for heads in (heads for heads in PIECES if heads <= case.heads):
            for what, (targets, sources) in moves(case, DTYPES[dtype], arguments.device, heads).items():
                seconds = median_seconds(
                    {way: partial(copy, targets, sources) for way, copy in WAYS.items()}, arguments.seconds
                )
                moved = 2 * sum(x.nbytes for x in targets)
                times = [f"{seconds[way] * 1e3 / heads:.4f}" for way in WAYS]
                print_row(heads, what, *times, *(f"{moved / seconds[way] / 1e9:.0f}" for way in WAYS))


if __name__ == "__main__":
    main()
