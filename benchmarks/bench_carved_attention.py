"""The whole carved call against dense SDPA and, where it can be imported, comfy-kitchen's sol_attn, in one run."""

import torch

from benchmarks import common, sol_attn
from jenga import JengaConfig, TokenGrid
from jenga.carving.attention import CarvedAttention

ROWS = 1024  # the last query rows, whose error is measured


def main() -> None:
    arguments = common.parser(__doc__).parse_args()
    shares = arguments.kept or common.KEPT_SHARES
    rival_name = "sol_attn ms" if arguments.device.startswith("cuda") else "sol_attn (eager) ms"
    for case, dtype in common.selected(arguments):
        q, k, v = common.structured_qkv(case, dtype, arguments.device)
        dense = common.dense_calls(q, k, v)
        statements, rivals = dict(dense), {}
        for share in shares:
            carved = CarvedAttention(JengaConfig(density=share))
            statements["carved", share] = lambda carved=carved: carved(q, k, v, TokenGrid(*case.grid), case.before)
            rivals[share] = sol_attn.prepared(q, k, v, topk_ratio=share)
        rivals["τ = 1.0"] = sol_attn.prepared(q, k, v, tau=1.0)
        statements |= {("sol_attn", key): rival for key, (rival, _) in rivals.items() if rival}
        seconds = common.median_seconds(statements, arguments.seconds)
        best = min(dense, key=seconds.get)

        print(f"\n### {case.name}, {dtype}, {arguments.device}\n")
        print(f"dense: {common.dense_rates(case, dense, seconds)}\n")
        errors = ("error", "sol_attn error") if arguments.refcheck else ()
        common.print_head(
            *("density", "kept share", "precision", "carved ms"),
            *(f"× {best}", "kept-work rate / dense", rival_name, *errors),
        )
        rows = torch.arange(max(0, case.tokens - ROWS), case.tokens, device=q.device)
        exact = common.dense_fp64(q, k, v, rows) if arguments.refcheck else None
        for share in shares:
            result, rival = statements["carved", share](), rivals[share]
            taken, kept = seconds["carved", share], float(result.kept_share)
            row = [f"{share:.0%}", f"{kept:.1%}", result.precision, f"{taken * 1e3:.2f}"]
            row += [f"{seconds[best] / taken:.2f}", f"{kept * seconds[best] / taken:.2f}"]
            row.append(f"{seconds['sol_attn', share] * 1e3:.2f}" if rival[0] else rival[1])
            if exact is not None:
                row.append(f"{common.relative_error(result.out[:, :, rows], exact):.1e}")
                row.append(f"{common.relative_error(rival[0]()[:, :, rows], exact):.1e}" if rival[0] else "–")
            common.print_row(*row)
        if rivals["τ = 1.0"][0]:
            print(f"\nsol_attn at τ = 1.0: {seconds['sol_attn', 'τ = 1.0'] * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
