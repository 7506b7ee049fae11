"""int8 keys against 16-bit ones on a GPU: preparation, attention alone with the same lists, and the whole carved call.

`python -m benchmarks.bench_int8 --kept 0.1 --kept 0.2`: the sm_80 kernels in both precisions (JENGA_FORCE_SM=80 for
their calls) and the kernels that the card takes by itself in 16 bits. Times take turns in one process; ratios are to
the sm_80 kernel. error: int8 against 16-bit output, relative L2.
"""

import os
from collections.abc import Callable

import torch

from benchmarks import common
from benchmarks.bench_block_sparse_attention import context_bias, prepared
from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving import ops
from jenga.carving.quantise import PRECISIONS


def on_sm80(call: Callable) -> Callable:
    """The same call with the sm_80 kernels alone."""

    def forced():
        os.environ["JENGA_FORCE_SM"] = "80"
        try:
            return call()
        finally:
            del os.environ["JENGA_FORCE_SM"]

    return forced


@torch.inference_mode()
def main() -> None:
    arguments = common.parser(__doc__).parse_args()
    if not arguments.device.startswith("cuda"):
        raise SystemExit("bench_int8: device must be a CUDA device, got " + arguments.device)
    for case, dtype in common.selected(arguments):
        q, k, v = common.structured_qkv(case, dtype, arguments.device)
        bias, scale = context_bias(case, q.device), case.head_dim**-0.5
        wide = prepared(case, q, k, v, 64)
        prepare = lambda: ops.prepare_blocks(q, k, v, wide.layout, bias, PRECISIONS["int8"])  # noqa: E731, B023
        narrow = prepare()
        statements = {
            ("16-bit", "preparation"): lambda: ops.prepare_blocks(q, k, v, wide.layout, bias),  # noqa: B023
            ("int8", "preparation"): prepare,
        }
        errors = {}
        for share in arguments.kept or (0.1, 0.2, 0.3):
            number = common.kept_blocks(share, case.blocks(64))
            cells = wide.layout.cells(case.num_video)
            lists = ops.select_blocks(wide.q_means, wide.k_means, None, cells, number, 0.0, scale)
            for name, blocks in (("16-bit", wide), ("int8", narrow)):
                call = lambda b=blocks, x=lists: ops.block_sparse_attention(q, b, x, scale)  # noqa: E731, B023
                statements[name, f"attention {share:.0%}"] = on_sm80(call)
                carved = CarvedAttention(JengaConfig(density=share, precision=name))
                grid, start = TokenGrid(*case.grid), case.before
                whole = lambda c=carved, g=grid, s=start: c(q, k, v, g, s).out  # noqa: E731, B023
                statements[name, f"whole call {share:.0%}"] = on_sm80(whole)
                if name == "16-bit":
                    statements["own", f"attention {share:.0%}"] = call
                    statements["own", f"whole call {share:.0%}"] = whole
            outs = (statements[name, f"attention {share:.0%}"]()[0] for name in ("int8", "16-bit"))
            errors[f"attention {share:.0%}"] = common.relative_error(next(outs), next(outs).double())
        seconds = common.median_seconds(statements, arguments.seconds)
        print(f"\n### {case.name}, {dtype}, {torch.cuda.get_device_name()}\n")
        common.print_head("part", "16-bit, sm_80, ms", "int8 ms", "× faster", "16-bit, the card's own, ms", "error")
        for part in dict.fromkeys(part for _, part in statements):
            own = seconds.get(("own", part))
            common.print_row(
                *(part, f"{seconds['16-bit', part] * 1e3:.3f}", f"{seconds['int8', part] * 1e3:.3f}"),
                f"{seconds['16-bit', part] / seconds['int8', part]:.2f}",
                *(f"{own * 1e3:.3f}" if own else "–", f"{errors[part]:.1e}" if part in errors else "–"),
            )


if __name__ == "__main__":
    main()
