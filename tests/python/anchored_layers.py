"""Layers of one model whose attention is carved with anchors, for the tests of what anchors keep."""

import torch

from jenga import AnchorConfig, CarvedAttention, JengaConfig, TokenGrid
from jenga.runtime.anchors import Anchors
from jenga.runtime.call import AttentionInput
from jenga.runtime.layout import TokenLayout
from jenga.runtime.residual_store import Budget
from jenga.runtime.session import attend_anchored

GRID = TokenGrid(5, 9, 13)  # 585 tokens: 10 key blocks, 5 query blocks, the last of each ragged
CPU = torch.device("cpu")
PLENTY = Budget(1 << 30)


def draw(batch=1, heads=2, head_dim=64, dtype=torch.float32, seed=0, tokens=GRID.num_tokens):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, heads, tokens, head_dim, generator=generator).to(dtype) for _ in range(3)]


def sdpa(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


class Run:
    """Layers of one model: q, k, v in, results out; counts the dense calls."""

    def __init__(self, config=None, budget=PLENTY, backend="reference", density=0.2, device=CPU, grid=GRID):
        self.anchored = Anchors(config or AnchorConfig(distance=4), device, budget)
        self.carved = CarvedAttention(JengaConfig(density=density, backend=backend, strict=True))
        self.alone = CarvedAttention(JengaConfig(density=2 * density, backend=backend, strict=True))
        self.layout = TokenLayout(grid)
        self.dense_calls = 0
        self.evaluation = 0

    def step(self, qkv, layers=1, keys=("cond",), shape="one", mask=None, again=False):
        """One model call, of the next evaluation unless `again`; every layer gets the same tensors."""
        self.evaluation += not again
        step = self.anchored.begin(keys, self.evaluation, shape, mask)
        inputs = AttentionInput(*qkv, self.layout, 0, None, mask, None)
        return [self._layer(step, layer, inputs) for layer in range(layers)]

    def _layer(self, step, layer, inputs):
        def dense():
            self.dense_calls += 1
            return sdpa(inputs.q, inputs.k, inputs.v)

        configs = self.carved.config, self.alone.config
        return attend_anchored(self.anchored, step, layer, inputs, *configs, self._carved_for, dense)

    def _carved_for(self, config, device):
        return self.carved if config == self.carved.config else self.alone
