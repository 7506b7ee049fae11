"""Video models that no table has: other class names, tokens in an order of their own."""

import math

import torch
from torch import nn


class Stranger(nn.Module):
    """Joint attention over [two frames of references, video, text]; its patch is told nowhere."""

    def __init__(self, width=128, heads=2, layers=2, channels=12, text_dim=64):
        super().__init__()
        self.heads, self.dtype = heads, torch.float32
        self.embed, self.read_text = nn.Linear(channels * 4, width), nn.Linear(text_dim, width)
        self.references = nn.Parameter(torch.randn(2, channels, 24, 24))
        self.layers = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.mixed = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.out = nn.Linear(width, channels * 4)

    def order(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, T, H, W, D] -> [B, T*H*W, D]"""
        return tokens.flatten(1, 3)

    def unordered(self, tokens: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        return tokens.unflatten(1, grid)

    def forward(self, x, timestep, context, transformer_options=None, **_):
        from comfy.ldm.modules.attention import optimized_attention

        video = _patches(x)
        references = _patches(self.references[None].transpose(1, 2)).expand(x.shape[0], *[-1] * 4)
        parts = self.embed(references).flatten(1, 3), self.embed(self.order(video)), self.read_text(context)
        tokens = torch.cat(parts, 1) + timestep.view(-1, 1, 1).to(x)
        for project, mix in zip(self.layers, self.mixed, strict=True):
            q, k, v = project(nn.functional.layer_norm(tokens, tokens.shape[-1:])).chunk(3, -1)
            attended = optimized_attention(q * 2, k, v, self.heads, transformer_options=transformer_options or {})
            tokens = tokens + mix(attended)
        start = parts[0].shape[1]
        out = self.unordered(self.out(tokens[:, start : start + math.prod(video.shape[1:4])]), video.shape[1:4])
        b, t, h, w, _ = out.shape
        return out.view(b, t, h, w, -1, 2, 2).permute(0, 4, 1, 2, 5, 3, 6).reshape(b, -1, t, 2 * h, 2 * w)


class ColumnStranger(Stranger):
    """Its tokens run down the columns."""

    def order(self, tokens):
        return tokens.transpose(2, 3).flatten(1, 3)

    def unordered(self, tokens, grid):
        t, h, w = grid
        return tokens.unflatten(1, (t, w, h)).transpose(2, 3)


def _patches(x: torch.Tensor) -> torch.Tensor:
    """[B, C, T, H, W] -> [B, T, H/2, W/2, C*4]"""
    b, c, t, h, w = x.shape
    return x.view(b, c, t, h // 2, 2, w // 2, 2).permute(0, 2, 3, 5, 1, 4, 6).flatten(4)
