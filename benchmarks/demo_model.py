"""The trained demo model for quality benchmarks: sampling from noise with any self-attention in the place of dense.

Quality is judged on trained activations: random tensors have neither the sparsity nor the smoothness of a real model.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from demo import machine, prompts
from demo.contact_sheet import PROMPTS
from demo.train_dit import MODEL
from demo.wan_modules import WanTransformer
from jenga import TokenGrid

WEIGHTS = Path(__file__).resolve().parents[1] / "demo" / "weights" / "jenga_demo_dit.safetensors"
SIZES = {"full": (13, 20, 32), "three quarters": (13, 15, 24), "half": (13, 10, 16)}  # tokens; all three were trained
SHIFT = 8.0  # of the flow schedule, as the host's model class has it


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", default="full", choices=SIZES)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="how many runs; words repeat, noise does not")
    parser.add_argument("--steps", type=int, default=30)


class DemoModel:
    """One size on one device. fp32 weights; on a GPU, and on a CPU where it is faster, autocast to bf16."""

    def __init__(self, size: str, device: str):
        self.grid, self.device = TokenGrid(*SIZES[size]), torch.device(device)
        here = machine.measure(cpu=self.device.type == "cpu")
        print(here)
        self._bf16 = here.model.name != "fp32"
        self.model = WanTransformer(**MODEL)
        self.model.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
        self.model.to(self.device).eval().requires_grad_(False)

    @property
    def num_layers(self) -> int:
        return len(self.model.blocks)

    def set_attention(self, attend: Callable | None) -> None:
        """attend(layer_index, q, k, v) -> out, all [B, H, S, D]; None: dense."""
        for layer, block in enumerate(self.model.blocks):
            if attend is None:
                block.self_attn.attend = torch.nn.functional.scaled_dot_product_attention
            else:
                block.self_attn.attend = lambda q, k, v, layer=layer: attend(layer, q, k, v)

    def noise(self, seed: int) -> torch.Tensor:
        shape = (1, 16, self.grid.t, 2 * self.grid.h, 2 * self.grid.w)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.device)

    def sigmas(self, steps: int) -> torch.Tensor:
        level = torch.linspace(1, 0, steps + 1)
        return SHIFT * level / (1 + (SHIFT - 1) * level)

    @torch.no_grad()
    def velocity(self, x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            return self.model(x, sigma.to(self.device).reshape(1) * 1000, context).float()

    def sample(self, prompt: int, steps: int, before_step: Callable[[int], None] = lambda step: None) -> torch.Tensor:
        """Euler from the prompt's own noise, without guidance: the final latent, normalised. before_step(step).

        prompt: of the contact sheet; beyond its last one the same words come again, with other noise.
        """
        x, sigmas = self.noise(prompt), self.sigmas(steps)
        context = prompts.encode(PROMPTS[prompt % len(PROMPTS)])[0].to(self.device)
        for step, (now, after) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
            before_step(step)
            x = x + (after - now).to(self.device) * self.velocity(x, now, context)
        return x
