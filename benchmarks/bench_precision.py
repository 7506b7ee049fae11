"""Error budget of 8 bits: what they change of the exact carved output, on the demo model's own activations.

`python -m benchmarks.bench_precision`: q, k, v of every layer at three noise levels of a dense run (bench_ablation), in
bf16; exact is carving in fp32, with the same lists. Every format of keys and values, in the reference, as they are and
with what real checkpoints have: a large constant on all keys, and a channel of outliers. Rules that no kernel has stand
beside the kernels' (quantise.py): "unrotated" has queries and keys as they are, "by row" one scale a key in the place
of one for 64, "nearest weights" rounds weights to the nearest e4m3 in the place of their logarithm, "whole powers" has
them as shares of the power of two above the row's largest, not of their unit's largest; "units of 128" is the rule of
Hopper's kernel, the others have the units of the device. Figures are relative L2 errors over all calls, the worst call
behind them, and whether they hold the BUDGET. --closed-loop samples with every precision instead: PSNR of the final
latent against dense of every prompt, and the mean, which has a budget too.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from unittest import mock

import torch

from benchmarks.bench_ablation import activations
from benchmarks.closed_loop import Carving, sample_by
from benchmarks.common import print_head, print_row, relative_error
from benchmarks.demo_model import DemoModel, add_options
from benchmarks.frame_quality import latent_psnr
from jenga import AnchorConfig, JengaConfig
from jenga.carving import quantise, reference
from jenga.carving.plan import make_plan
from jenga.carving.quantise import E4M3_MAX, PRECISIONS, SIXTEEN_BIT, Precision

BUDGET = {torch.float8_e4m3fn: 0.02, None: 0.01}  # by the dtype of values
CLOSED_LOOP_BUDGET = 0.3  # dB
SHARES = (0.1, 0.2)
E4M3 = torch.float8_e4m3fn


def nearest_weights(weights: torch.Tensor) -> torch.Tensor:
    """Weights, at most 1, as the nearest multiples of 1/448 in e4m3."""
    return (weights * E4M3_MAX).to(E4M3).to(weights.dtype) / E4M3_MAX


def power_above_row(logits: torch.Tensor, segments) -> torch.Tensor:
    """The same of every logit of a row, [..., 1]: that of the power of two at or above its largest."""
    return (logits.amax(-1, keepdim=True) / math.log(2)).ceil() * math.log(2)


class Rules(NamedTuple):
    """Functions of quantise.py: the kernels' rules, but what is given in their place."""

    quantise_keys: Callable = quantise.quantise_keys
    scale_of_rows: Callable = quantise.scale_of_rows
    rounded_weights: Callable = quantise.rounded_weights
    largest_of_units: Callable = quantise.largest_of_units
    unit_keys: Callable = quantise.unit_keys
    hadamard: Callable = quantise.hadamard
    rotation_size: Callable = quantise.rotation_size


def as_it_is(x: torch.Tensor) -> torch.Tensor:
    return x


KERNELS, NEAREST = Rules(), Rules(rounded_weights=nearest_weights)
WHOLE_POWERS = Rules(largest_of_units=power_above_row)
UNITS_OF_128 = Rules(unit_keys=lambda device: 128)
UNROTATED = Rules(hadamard=as_it_is, rotation_size=lambda head_dim: 1)
BY_ROW = Rules(partial(quantise.quantise_keys, rows=1), lambda scale, number: scale)
INT8, FP8 = PRECISIONS["int8"], PRECISIONS["fp8"]
FORMATS = {
    "keys int8": (INT8, KERNELS),
    "keys int8 unrotated": (INT8, UNROTATED),
    "keys int8 by row": (INT8, BY_ROW),
    "keys e4m3": (Precision(E4M3, None), KERNELS),
    "values e4m3": (Precision(None, E4M3), KERNELS),
    "keys int8, values e4m3": (FP8, KERNELS),
    "keys int8 unrotated, values e4m3": (FP8, UNROTATED),
    "keys int8 by row, values e4m3": (FP8, BY_ROW),
    "keys int8, values e4m3, nearest weights": (FP8, NEAREST),
    "keys int8, values e4m3, whole powers": (FP8, WHOLE_POWERS),
    "keys int8, values e4m3, units of 128": (FP8, UNITS_OF_128),
    "keys e4m3, values e4m3": (Precision(E4M3, E4M3), KERNELS),
}
# By JengaConfig's names, 16 bits first.
SAMPLED = {name: (name, KERNELS) for name in PRECISIONS}
SAMPLED |= {f"{name} unrotated": (name, UNROTATED) for name in ("int8", "fp8")}
SAMPLED |= {f"{name} by row": (name, BY_ROW) for name in ("int8", "fp8")}
SAMPLED["fp8, nearest weights"] = "fp8", NEAREST


def with_constant(k: torch.Tensor) -> torch.Tensor:
    """Ten times the deviation of the keys, in a direction of every head."""
    direction = torch.randn(1, k.shape[1], 1, k.shape[3], generator=torch.Generator().manual_seed(0)).to(k)
    return k + 10 * k.std() * direction


def with_outliers(k: torch.Tensor) -> torch.Tensor:
    """One channel eight times as large. Queries of that channel are as they are, so attention is another one."""
    return torch.cat([8 * k[..., :1], k[..., 1:]], -1)


HARDNESS: dict[str, Callable] = {
    "as it is": as_it_is,
    "constant on keys": with_constant,
    "channel of outliers": with_outliers,
}


class Call:
    """One attention call at one share: lists, and the exact carved output."""

    def __init__(self, model: DemoModel, q, k, v, share: float):
        self._q, self._k, self._v = q, k, v
        config, tokens = JengaConfig(density=share), model.grid.num_tokens
        self._plan = make_plan(model.grid, tokens, 0, q.device, config, False)
        layout, self._scale = self._plan.layout, q.shape[3] ** -0.5
        blocks = self._prepare(SIXTEEN_BIT)
        means, sizes = (blocks.q_means, blocks.k_means), (tokens, layout.k_cell_size, layout.tail_block_size)
        rule = (self._plan.min_blocks, 0.0, self._scale)
        self._lists = reference.select_blocks(*means, None, layout.cells(tokens), *rule)
        self._tail_bias = reference.tail_bias(*means, *sizes, self._scale)
        self._exact = self._attend(blocks)

    def _prepare(self, precision: Precision):
        return reference.prepare_blocks(self._q, self._k, self._v, self._plan.layout, None, precision)

    def _attend(self, blocks) -> torch.Tensor:
        blocks = blocks._replace(tail_bias=self._tail_bias)
        return reference.block_sparse_attention(self._q, blocks, self._lists, self._scale)[0]

    def error(self, precision: Precision, rules: Rules) -> float:
        with mock.patch.multiple(quantise, **rules._asdict()):
            return relative_error(self._attend(self._prepare(precision)), self._exact.double())


def print_open_loop(model: DemoModel, arguments: argparse.Namespace) -> None:
    taken = [x[:3] for prompt in range(arguments.prompts) for x in activations(model, prompt, arguments.steps)]
    qkv = [tuple(x.bfloat16().float() for x in call) for call in taken]
    print(f"{model.grid.num_tokens} tokens, {len(qkv)} calls, {arguments.device}\n")
    print_head("keys", "kept", *FORMATS)
    for hardness, change in HARDNESS.items():
        for share in SHARES:
            calls = [Call(model, q, change(k), v, share) for q, k, v in qkv]
            cells = []
            for precision, rules in FORMATS.values():
                errors = [call.error(precision, rules) for call in calls]
                mean, budget = sum(errors) / len(errors), BUDGET[precision.values]
                cells.append(f"{mean:.4f}, {max(errors):.4f}, {'holds' if mean <= budget else 'over'} {budget}")
            print_row(hardness, f"{share:.0%}", *cells)


def psnr(model: DemoModel, prompt: int, dense: torch.Tensor, steps: int, method: Carving, rules: Rules) -> float:
    """dB of the final latent of one run against the dense one's, by `method`, which ends with it."""
    with mock.patch.multiple(quantise, **rules._asdict()):
        latent = sample_by(method, model, prompt, steps)
    method.close()
    return latent_psnr(latent, dense)


def print_closed_loop(model: DemoModel, arguments: argparse.Namespace) -> None:
    prompts, steps = range(arguments.prompts), arguments.steps
    dense = [model.sample(prompt, steps).cpu() for prompt in prompts]
    print(f"{model.grid.num_tokens} tokens, {steps} steps, {arguments.device}\n")
    print_head("run", "prompt", *SAMPLED)
    for name, share, anchors in (("carving 20 %", 0.2, None), ("anchored 10 %, A = 4", 0.1, AnchorConfig(4))):
        rows = []
        for prompt in prompts:
            row = []
            for precision, rules in SAMPLED.values():
                method = Carving(model, share, anchors, precision=precision, backend="reference")
                row.append(psnr(model, prompt, dense[prompt], steps, method, rules))
            print_row(name, prompt, *(f"{x:.2f}" for x in row))
            rows.append(row)
        means = [sum(column) / len(column) for column in zip(*rows, strict=True)]
        words = [f"{x:.2f}" if x - means[0] >= -CLOSED_LOOP_BUDGET else f"{x:.2f}, over" for x in means]
        print_row(name, "mean", *words)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--closed-loop", action="store_true", help="sample with every precision instead")
    arguments = parser.parse_args()
    model = DemoModel(arguments.size, arguments.device)
    (print_closed_loop if arguments.closed_loop else print_open_loop)(model, arguments)


if __name__ == "__main__":
    main()
