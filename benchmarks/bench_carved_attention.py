"""The whole carved call against dense SDPA and, where it can be imported, comfy-kitchen's sol_attn, in one run."""

import torch

from benchmarks import common
from jenga import JengaConfig
from jenga.attention import CarvedAttention


def sol_attn(q, k, v, kept: float):
    """comfy-kitchen's sol_attn at the same share, or None with the reason why it cannot run."""
    try:
        import comfy_kitchen
    except ImportError:
        return None, "comfy-kitchen is not installed"
    if not hasattr(comfy_kitchen, "sol_attn"):
        return None, "comfy-kitchen is older than 0.2.33"
    if q.shape[-1] != 128:
        return None, "sol_attn takes head dim 128 only"
    if not comfy_kitchen.sol_attn_is_available(q.device):
        return None, f"sol_attn's kernels do not run on {q.device}"
    rows = [x.transpose(1, 2) for x in (q, k, v)]
    return (lambda: comfy_kitchen.sol_attn(*rows, topk_ratio=kept).transpose(1, 2)), ""


def main() -> None:
    arguments = common.parser(__doc__).parse_args()
    cases, shares, dtype = common.selected(arguments)
    for case in cases:
        q, k, v = common.structured_qkv(case, dtype, arguments.device)
        dense = common.dense_seconds(q, k, v, arguments.seconds)
        best = min(dense, key=dense.get)
        rates = ", ".join(
            f"{n} {t * 1e3:.2f} ms, {case.dense_flops() / t / 1e12:.3f} TFLOP/s" for n, t in dense.items()
        )
        print(f"\n### {case.name}, {arguments.dtype}, {arguments.device}\n\ndense: {rates}\n")
        columns = ("density", "kept share", "carved ms", f"× {best}", "kept-work rate / dense", "sol_attn ms", "error")
        print(f"| {' | '.join(columns)} | sol_attn error |")
        print("|---|---|---|---|---|---|---|---|")
        exact = common.dense_fp64(q, k, v) if arguments.refcheck else None
        for density in shares:
            carved = CarvedAttention(JengaConfig(density=density))
            call = lambda: carved(q, k, v, case.grid, video_start=case.num_context)  # noqa: E731
            with torch.no_grad():
                result = call()
                seconds = common.median_seconds(call, arguments.seconds)
                rival, reason = sol_attn(q, k, v, density)
                rival_ms = f"{common.median_seconds(rival, arguments.seconds) * 1e3:.2f}" if rival else reason
            share = float(result.kept_share)
            row = [f"{density:.0%}", f"{share:.1%}", f"{seconds * 1e3:.2f}", f"{dense[best] / seconds:.2f}×"]
            row += [f"{share * dense[best] / seconds:.2f}", rival_ms]
            if exact is None:
                row += ["–", "–"]
            else:
                rows = exact.shape[2]
                row.append(f"{common.relative_error(result.out[:, :, -rows:], exact):.4f}")
                row.append(f"{common.relative_error(rival()[:, :, -rows:], exact):.4f}" if rival else "–")
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
