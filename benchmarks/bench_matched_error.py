"""Carved attention against comfy-kitchen's sol_attn at matched error, on the demo model's own activations, enlarged.

`python -m benchmarks.bench_matched_error`: the trained demo model is sampled on grids of real size, far beyond those it
was trained on; q, k, v of all its layers in the middle of the run are the heads of one call. For every setting of
sol_attn the last columns say which kept share of ours is the smallest whose relative L2 error against dense fp64 is not
larger, and how much faster that whole call is. Times are taken in turns in one process.
"""

import argparse

import torch

from benchmarks import common
from benchmarks.bench_ablation import activations
from benchmarks.bench_carved_attention import sol_attn
from benchmarks.demo_model import DemoModel
from jenga import CarvedAttention, JengaConfig, TokenGrid

GRIDS = ((21, 30, 52), (21, 45, 80), (32, 45, 80))
SHARES = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
RIVALS = {"top-k 5 %": {"topk_ratio": 0.05}, "top-k 10 %": {"topk_ratio": 0.1}, "top-k 20 %": {"topk_ratio": 0.2}}
RIVALS["τ = 1.0"] = {"tau": 1.0}
STEPS = 12
ROWS = 1024  # query rows, evenly spread, whose error is measured


def heads(model: DemoModel) -> tuple[torch.Tensor, ...]:
    """q, k, v [1, layers * heads, S, D] (memory [1, S, H, D]) of the middle of a dense run, bf16."""
    layers = activations(model, 0, STEPS, levels=(0.5,))
    q, k, v, _ = (torch.cat(x, 1).bfloat16() for x in zip(*layers, strict=True))
    return tuple(x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))


def measure(grid: TokenGrid, q, k, v, seconds: float) -> None:
    statements = dict(common.dense_calls(q, k, v))
    dense = list(statements)
    for share in SHARES:
        carved = CarvedAttention(JengaConfig(density=share))
        statements["ours", share] = lambda carved=carved: carved(q, k, v, grid).out
    for name, routing in RIVALS.items():
        rival, reason = sol_attn(q, k, v, **routing)
        if rival is None:
            raise SystemExit(f"bench_matched_error: sol_attn must be available, got: {reason}")
        statements["sol_attn", name] = rival
    times = common.median_seconds(statements, seconds)
    rows = torch.linspace(0, grid.num_tokens - 1, ROWS, device=q.device).round().long()
    exact = common.dense_fp64(q, k, v, rows)
    errors = {key: common.relative_error(call()[:, :, rows], exact) for key, call in statements.items()}

    best = min(dense, key=times.get)
    print(f"\n### {q.shape[1]} × {grid.num_tokens:,}, dense {best} {times[best] * 1e3:.2f} ms, {errors[best]:.1e}\n")
    common.print_head("ours, kept", *(f"{share:.1%}" for share in SHARES))
    common.print_row("ms", *(f"{times['ours', share] * 1e3:.2f}" for share in SHARES))
    common.print_row("error", *(f"{errors['ours', share]:.4f}" for share in SHARES))
    print()
    common.print_head("sol_attn", "ms", "error", "ours at matched error", "ms", "× sol_attn")
    for name in RIVALS:
        rival = "sol_attn", name
        row = [name, f"{times[rival] * 1e3:.2f}", f"{errors[rival]:.4f}"]
        share = next((share for share in SHARES if errors["ours", share] <= errors[rival]), None)
        if share is None:
            common.print_row(*row, f"not up to {SHARES[-1]:.0%}", "–", "–")
        else:
            ours = times["ours", share]
            common.print_row(*row, f"{share:.1%}", f"{ours * 1e3:.2f}", f"{times[rival] / ours:.2f}")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--grid", type=int, nargs=3, action="append", metavar=("T", "H", "W"), help="may repeat")
    parser.add_argument("--seconds", type=float, default=0.5, help="least time spent on one figure")
    arguments = parser.parse_args()
    model = DemoModel("full", arguments.device)
    for sides in arguments.grid or GRIDS:
        model.grid = TokenGrid(*sides)
        measure(model.grid, *heads(model), arguments.seconds)


if __name__ == "__main__":
    main()
