"""8 bits against 16 on a GPU: preparation, attention alone with the same lists, and the whole carved call.

`python -m benchmarks.bench_8bit --precision fp8 --kept 0.1 --kept 0.2`. On Hopper int8 is set against the sm_80 kernels
in 16 bits (JENGA_FORCE_SM=80 for both); else both are the kernels that the card takes by itself, fp8 for head dim 128.
With JENGA_FORCE_SM=89 around it a Hopper times fp8 by mma.sync. Times take turns in one process; with --settled each is
taken after so long of nothing else. error: 8-bit against 16-bit output, relative L2.
"""

import os
from collections.abc import Callable

import torch

from benchmarks import common
from benchmarks.bench_block_sparse_attention import context_bias, prepared
from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving import ops
from jenga.carving.quantise import PRECISIONS

KEPT_SHARES = (0.1, 0.2, 0.3)
PRECISIONS_TIMED = ("int8", "fp8")
Statements = dict[tuple[str, str], Callable]  # by precision and part


def on_sm80(call: Callable) -> Callable:
    """The same call with the sm_80 kernels alone."""

    def forced():
        os.environ["JENGA_FORCE_SM"] = "80"
        try:
            return call()
        finally:
            del os.environ["JENGA_FORCE_SM"]

    return forced


def as_it_is(call: Callable) -> Callable:
    return call


def way_of(precision: str, device: torch.device) -> Callable:
    """On Hopper the kernels in 16 bits and in fp8 are other ones than int8's: of an architecture of their own."""
    on_hopper = torch.cuda.get_device_capability(device) == (9, 0)
    return on_sm80 if precision == "int8" and on_hopper else as_it_is


def statements_of(case, precision: str, q, k, v, shares) -> tuple[Statements, dict[str, float]]:
    """What is timed, in 16 bits and in that precision, and the errors of attention alone by part."""
    bias, scale, way = context_bias(case, q.device), case.head_dim**-0.5, way_of(precision, q.device)
    wide = prepared(case, q, k, v, 64)

    def prepare(name: str) -> Callable:
        return lambda: ops.prepare_blocks(q, k, v, wide.layout, bias, PRECISIONS[name])

    blocks = {"16-bit": wide, precision: prepare(precision)()}
    statements: Statements = {(name, "preparation"): prepare(name) for name in blocks}
    errors = {}

    def attend(name: str, lists) -> Callable:
        return way(lambda: ops.block_sparse_attention(q, blocks[name], lists, scale))

    def carve(name: str, share: float) -> Callable:
        carved, grid = CarvedAttention(JengaConfig(density=share, precision=name)), TokenGrid(*case.grid)
        return way(lambda: carved(q, k, v, grid, case.before).out)

    for share in shares:
        number, cells = common.kept_blocks(share, case.blocks(64)), wide.layout.cells(case.num_video)
        lists = ops.select_blocks(wide.q_means, wide.k_means, None, cells, number, 0.0, scale)
        part = f"attention {share:.0%}"
        for name in blocks:
            statements[name, part] = attend(name, lists)
            statements[name, f"whole call {share:.0%}"] = carve(name, share)
        outs = [statements[name, part]()[0] for name in (precision, "16-bit")]
        errors[part] = common.relative_error(outs[0], outs[1].double())
    return statements, errors


@torch.inference_mode()
def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument(
        "--precision", action="append", choices=PRECISIONS_TIMED, help="may repeat; all of them by default"
    )
    common.add_settled(parser)
    arguments = parser.parse_args()
    if not arguments.device.startswith("cuda"):
        raise SystemExit("bench_8bit: device must be a CUDA device, got " + arguments.device)
    for case, dtype in common.selected(arguments):
        q, k, v = common.structured_qkv(case, dtype, arguments.device)
        for precision in arguments.precision or PRECISIONS_TIMED:
            if precision == "fp8" and case.head_dim != 128:
                continue
            statements, errors = statements_of(case, precision, q, k, v, arguments.kept or KEPT_SHARES)
            seconds = common.timing(arguments)(statements)
            print(f"\n### {case.name}, {dtype}, {torch.cuda.get_device_name()}\n")
            common.print_head("part", "16-bit, ms", f"{precision}, ms", "× faster", "error")
            for part in dict.fromkeys(part for _, part in statements):
                wide, narrow = (seconds[name, part] for name in ("16-bit", precision))
                error = f"{errors[part]:.1e}" if part in errors else "–"
                common.print_row(part, f"{wide * 1e3:.3f}", f"{narrow * 1e3:.3f}", f"{wide / narrow:.2f}", error)


if __name__ == "__main__":
    main()
