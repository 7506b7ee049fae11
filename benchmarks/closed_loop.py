"""Closed loop: what carving, anchored carving and sol_attn leave of the dense run of the same noise.

`python -m benchmarks.closed_loop`: the demo model sampled from noise with Euler, final latent against dense, mean over
prompts; PSNR's range is that of the dense latent. Cost is attention work relative to dense, anchors included: kept
share + tail columns for every carved call, and 1 for every anchor; for sol_attn the blocks that it computes, the band
beside the diagonal included, + its pooled columns. Up to FEW_STEPS steps the anchored rows are the few-step ones.
--ablation samples with every variant of bench_ablation instead, at its shares, without anchors or with: PSNR at cost.
"""

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks import sol_attn
from benchmarks.bench_ablation import SHARES, VARIANTS
from benchmarks.common import Unavailable, print_head, print_row, relative_error
from benchmarks.demo_model import DemoModel, add_options
from benchmarks.frame_quality import latent_psnr
from jenga import AnchorConfig, CarvedAttention, JengaConfig
from jenga.runtime.anchors import ANCHOR, Anchors
from jenga.runtime.call import AttentionInput
from jenga.runtime.layout import TokenLayout
from jenga.runtime.session import attend_anchored

FEW_STEPS = 8  # up to this many steps the distances that make sense are others


class Carving:
    """One run of carving, with anchors where `anchors` is given. Counts its cost."""

    def __init__(self, model: DemoModel, density: float, anchors: AnchorConfig | None, **options):
        self.config = JengaConfig(density=density, **options)
        self._carved, self._grid = CarvedAttention(self.config), model.grid
        self._anchors = Anchors(anchors, model.device) if anchors else None
        self._step, self._costs = None, []

    def before_step(self, step: int) -> None:
        if self._anchors:
            self._step = self._anchors.begin(["prompt"], step, self._grid)

    def attend(self, layer: int, q, k, v) -> torch.Tensor:
        if self._anchors is None:
            result = self._carved(q, k, v, self._grid)
        else:
            dense = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)  # noqa: E731
            inputs = AttentionInput(q, k, v, TokenLayout(self._grid), 0, None, None, None)
            carved_for = lambda config, device: self._carved  # noqa: E731
            configs = self.config, self.config
            result = attend_anchored(self._anchors, self._step, layer, inputs, *configs, carved_for, dense)
        self._costs.append((result.backend == ANCHOR, result.kept_share))
        return result.out

    def cost(self) -> float:
        """Mean over all calls. An anchor makes a carved call too, and keeps what the others keep."""
        kept = float(torch.stack([share for is_anchor, share in self._costs if not is_anchor]).mean())
        tail = (1 - kept) / self.config.tail_block_size if self.config.compensation == "mean" else 0
        return kept + tail + sum(is_anchor for is_anchor, _ in self._costs) / len(self._costs)

    def close(self) -> None:
        if self._anchors:
            self._anchors.close()


class SolAttn:
    """comfy-kitchen's sol_attn, its kernels or its eager form, whichever it takes here. Counts its cost."""

    def __init__(self, model: DemoModel, share: float):
        if reason := sol_attn.refusal(model.device):
            raise Unavailable(reason)
        self._share, self._work = share, sol_attn.Work()

    def before_step(self, step: int) -> None:
        """It keeps nothing between steps."""

    def attend(self, layer: int, q, k, v) -> torch.Tensor:
        return self._work.attend(q, k, v, topk_ratio=self._share)

    def cost(self) -> float:
        return sol_attn.cost(self._work.share(topk_ratio=self._share))

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True)
class Row:
    name: str
    make: Callable[[DemoModel], Carving | SolAttn]


def carving(density: float) -> Row:
    return Row(f"carving {density:.0%}", lambda model: Carving(model, density, None))


def anchored(density: float, distance: int, bits: int = 4) -> Row:
    when = f"A = {distance}" if distance else "first step only"
    name = f"anchored {density:.0%}, {when}, {'exact' if bits == 16 else f'{bits}-bit'} residual"
    return Row(name, lambda model: Carving(model, density, AnchorConfig(distance, bits)))


def sol(share: float) -> Row:
    return Row(f"sol_attn {share:.0%}", lambda model: SolAttn(model, share))


def rows(steps: int) -> list[Row]:
    shares = (0.1, 0.2, 0.4)
    if steps <= FEW_STEPS:
        with_anchors = [anchored(density, distance) for density in (0.05, 0.1, 0.2) for distance in (0, 3, 2)]
    else:
        with_anchors = [anchored(0.05, 16), anchored(0.05, 8), anchored(0.1, 8), anchored(0.05, 4)]
        with_anchors += [anchored(0.1, 4, bits) for bits in (16, 8, 4)]
    return [*map(carving, shares), *with_anchors, *map(sol, shares)]


def variants(anchors: AnchorConfig | None) -> list[list[Row]]:
    """A line of rows for every variant of the open loop: one row for every share."""
    return [
        [
            Row(name, lambda model, share=share, options=options: Carving(model, share, anchors, **options))
            for share in SHARES
        ]
        for name, options in VARIANTS.items()
    ]


def sample_by(method: Carving | SolAttn, model: DemoModel, prompt: int, steps: int) -> torch.Tensor:
    """The final latent of a run with that attention, on the CPU."""
    model.set_attention(method.attend)
    return model.sample(prompt, steps, method.before_step).cpu()


def measure(model: DemoModel, row: Row, dense: list[torch.Tensor], steps: int) -> tuple[float, float, float, float]:
    """Cost, relative L2, PSNR and seconds of a run: means over the prompts."""
    figures = []
    for prompt, expected in enumerate(dense):
        method = row.make(model)
        start = time.perf_counter()
        latent = sample_by(method, model, prompt, steps)
        seconds = time.perf_counter() - start
        figures.append((method.cost(), relative_error(latent, expected), latent_psnr(latent, expected), seconds))
        method.close()
    return tuple(sum(column) / len(column) for column in zip(*figures, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--only", default="", help="only rows whose name this regular expression finds")
    parser.add_argument("--ablation", action="store_true", help="the variants of bench_ablation instead")
    parser.add_argument("--anchors", type=int, metavar="A", help="with --ablation: anchors every A-th step")
    arguments = parser.parse_args()
    model = DemoModel(arguments.size, arguments.device)
    start = time.perf_counter()
    dense = [model.sample(prompt, arguments.steps).cpu() for prompt in range(arguments.prompts)]
    seconds = (time.perf_counter() - start) / len(dense)
    print(f"{model.grid.num_tokens} tokens, {arguments.steps} steps, {len(dense)} prompts, {arguments.device}\n")
    if arguments.ablation:
        print_ablation(model, dense, arguments)
    else:
        print_runs(model, dense, seconds, arguments)


def print_runs(model: DemoModel, dense: list[torch.Tensor], seconds: float, arguments: argparse.Namespace) -> None:
    print("| run | cost | relative L2 | PSNR dB | s |\n|---|---|---|---|---|")
    print(f"| dense | 1.000 | 0 | – | {seconds:.1f} |", flush=True)
    for row in rows(arguments.steps):
        if not re.search(arguments.only, row.name):
            continue
        try:
            cost, error, psnr, seconds = measure(model, row, dense, arguments.steps)
        except Unavailable as reason:
            print(f"| {row.name} | – | {reason} | – | – |", flush=True)
            continue
        print(f"| {row.name} | {cost:.3f} | {error:.4f} | {psnr:.1f} | {seconds:.1f} |", flush=True)


def print_ablation(model: DemoModel, dense: list[torch.Tensor], arguments: argparse.Namespace) -> None:
    print_head("variant", *(f"{share:.0%} kept" for share in SHARES))
    for line in variants(None if arguments.anchors is None else AnchorConfig(arguments.anchors)):
        if not re.search(arguments.only, line[0].name):
            continue
        figures = [measure(model, row, dense, arguments.steps) for row in line]
        print_row(line[0].name, *(f"{psnr:.1f} at {cost:.3f}" for cost, _, psnr, _ in figures))


if __name__ == "__main__":
    main()
