"""Open loop: how far one carved call is from dense attention, on the demo model's own q, k, v.

`python -m benchmarks.bench_ablation`: activations are taken from a dense run at three noise levels, in every layer;
figures are relative L2 errors against dense, mean over layers, levels and prompts, each at its cost: what is really
kept plus the tail columns. One thing changes per row, from the defaults of JengaConfig. Rows of equal cost can be
compared: adjacency and a mass (top_p) add blocks to the share of the column.
"""

import argparse

import torch

from benchmarks.common import relative_error
from benchmarks.demo_model import DemoModel, add_options
from jenga import CarvedAttention, JengaConfig

SHARES = (0.05, 0.1, 0.2, 0.4)
LEVELS = (0.1, 0.5, 0.8)  # parts of the run at which activations are taken
VARIANTS = {
    "defaults: key block 64, tail 64, 3-D curve": {},
    "compensation none": {"compensation": "none"},
    "tail cells of 32": {"tail_block_size": 32},
    "key block 128, tail 128": {"kv_block_size": 128, "tail_block_size": 128},
    "key block 128, tail 64": {"kv_block_size": 128, "tail_block_size": 64},
    "key block 128, tail 32": {"kv_block_size": 128, "tail_block_size": 32},
    "adjacency": {"adjacency": True},
    "and blocks up to mass 0.3": {"top_p": 0.3},
    "and blocks up to mass 0.6": {"top_p": 0.6},
    "and blocks up to mass 0.8": {"top_p": 0.8},
    "raster order": {"curve": "raster"},
    "2-D curve per frame": {"curve": "gilbert2d_sliced"},
    "raster order, compensation none": {"curve": "raster", "compensation": "none"},
    "published: key block 128, adjacency, none": {
        "kv_block_size": 128,
        "tail_block_size": 128,
        "adjacency": True,
        "compensation": "none",
    },
}


def activations(model: DemoModel, prompt: int, steps: int, levels=LEVELS) -> list[tuple[torch.Tensor, ...]]:
    """q, k, v and the dense output of every layer at every level of one dense run."""
    wanted, taken = {int(level * steps) for level in levels}, []
    here = -1

    def before_step(step: int) -> None:
        nonlocal here
        here = step

    def attend(layer: int, q, k, v) -> torch.Tensor:
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        if here in wanted:
            taken.append((q, k, v, out))
        return out

    model.set_attention(attend)
    model.sample(prompt, steps, before_step)
    return taken


@torch.no_grad()
def measure(model: DemoModel, calls: list[tuple[torch.Tensor, ...]], density: float, options: dict):
    """Mean relative error and mean cost."""
    config = JengaConfig(density=density, **options)
    carved, errors, kept = CarvedAttention(config), [], []
    for q, k, v, dense in calls:
        result = carved(q, k, v, model.grid)
        errors.append(relative_error(result.out, dense))
        kept.append(float(result.kept_share))
    share = sum(kept) / len(kept)
    tail = (1 - share) / config.tail_block_size if config.compensation == "mean" else 0
    return sum(errors) / len(errors), share + tail


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    arguments = parser.parse_args()
    model = DemoModel(arguments.size, arguments.device)
    calls = [call for prompt in range(arguments.prompts) for call in activations(model, prompt, arguments.steps)]
    print(f"{model.grid.num_tokens} tokens, {len(calls)} calls of {arguments.prompts} prompts, {arguments.device}\n")
    print(f"| variant | {' | '.join(f'{share:.0%} kept' for share in SHARES)} |")
    print("|---" * (len(SHARES) + 1) + "|")
    for name, options in VARIANTS.items():
        figures = (measure(model, calls, share, options) for share in SHARES)
        cells = " | ".join(f"{error:.3f} at {cost:.3f}" for error, cost in figures)
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
