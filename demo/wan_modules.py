"""The Wan 2.1 text-to-video transformer and VAE for training: tensors and maths of the published checkpoint format.

Written for whole clips (training), where ComfyUI's own modules work in chunks of frames; tests/host/test_demo_model.py
holds both to the same result. Parameter names are the format's.
"""

import torch
from torch import nn
from torch.nn import functional as F

HEAD_DIM = 128


def rotary_table(t: int, h: int, w: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin [t*h*w, 64] of the 3-axis rotary embedding of head dim 128 (44, 42 and 42 channels)."""
    axis = 2 * (HEAD_DIM // 6)
    sizes = (HEAD_DIM - 2 * axis, axis, axis)
    grid = torch.meshgrid(*(torch.arange(n, device=device, dtype=torch.float64) for n in (t, h, w)), indexing="ij")
    angles = [
        g.reshape(-1, 1) / 10000 ** (torch.arange(0, size, 2, device=device, dtype=torch.float64) / size)
        for g, size in zip(grid, sizes, strict=True)
    ]
    angle = torch.cat(angles, 1)
    return angle.cos().float(), angle.sin().float()


def rotate(x: torch.Tensor, table: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotate neighbouring channel pairs of x [B, S, H, D] by the table's angles."""
    cos, sin = (part[:, None, :] for part in table)
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = (nn.RMSNorm(dim, eps=1e-6) for _ in range(2))
        self.attend = F.scaled_dot_product_attention  # q, k, v [B, H, S, D]; the benchmarks put another in its place

    def forward(self, x, context=None, table=None):
        source = x if context is None else context
        q, k, v = self.norm_q(self.q(x)), self.norm_k(self.k(source)), self.v(source)
        q, k, v = (y.unflatten(-1, (-1, HEAD_DIM)) for y in (q, k, v))
        if table is not None:
            q, k = rotate(q, table), rotate(k, table)
        q, k, v = (y.transpose(1, 2).to(v.dtype) for y in (q, k, v))
        out = self.attend(q, k, v)
        return self.o(out.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, dim: int, ffn_dim: int):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False) for _ in range(2))
        self.norm3 = nn.LayerNorm(dim, eps=1e-6)
        self.self_attn, self.cross_attn = Attention(dim), Attention(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(ffn_dim, dim))
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def forward(self, x, modulation, context, table):
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + modulation).chunk(6, 1)
        x = x + gate1 * self.self_attn(shift1 + self.norm1(x) * (1 + scale1), table=table)
        x = x + self.cross_attn(self.norm3(x), context)
        return x + gate2 * self.ffn(shift2 + self.norm2(x) * (1 + scale2))


class Head(nn.Module):
    def __init__(self, dim: int, out_channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.head = nn.Linear(dim, out_channels)
        self.modulation = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)

    def forward(self, x, time):
        shift, scale = (self.modulation + time[:, None]).chunk(2, 1)
        return self.head(shift + self.norm(x) * (1 + scale))


class WanTransformer(nn.Module):
    """Latent [B, 16, T, H, W], timestep [B] (0..1000), context [B, L, text_dim] -> velocity (noise - clean)."""

    def __init__(self, dim: int, ffn_dim: int, num_layers: int, text_dim: int, freq_dim: int = 256, channels: int = 16):
        super().__init__()
        self.dim, self.freq_dim, self.channels = dim, freq_dim, channels
        self.patch_embedding = nn.Conv3d(channels, dim, (1, 2, 2), (1, 2, 2))
        self.text_embedding = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(nn.Linear(freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(dim, ffn_dim) for _ in range(num_layers))
        self.head = Head(dim, 4 * channels)
        nn.init.zeros_(self.head.head.weight)
        nn.init.zeros_(self.head.head.bias)

    def forward(self, x, timestep, context):
        x = self.patch_embedding(x)
        t, h, w = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        half = self.freq_dim // 2
        rate = 10000 ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
        angle = timestep.double()[:, None] * rate
        time = self.time_embedding(torch.cat([angle.cos(), angle.sin()], 1).to(self.time_embedding[0].weight.dtype))
        modulation = self.time_projection(time).unflatten(1, (6, self.dim))
        context = self.text_embedding(context)
        table = rotary_table(t, h, w, x.device)
        for block in self.blocks:
            x = block(x, modulation, context, table)
        x = self.head(x, time).unflatten(1, (t, h, w)).unflatten(-1, (1, 2, 2, self.channels))
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)


class CausalConv3d(nn.Conv3d):
    """3-D convolution that sees no later frame."""

    def __init__(self, channels_in: int, channels_out: int, kernel, stride=1, pad_time: bool = True):
        kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
        space = (kernel[1] // 2, kernel[2] // 2)
        super().__init__(channels_in, channels_out, kernel, stride, (0, *space))
        self.front = kernel[0] - 1 if pad_time else 0

    def forward(self, x):
        return super().forward(F.pad(x, (0, 0, 0, 0, self.front, 0)) if self.front else x)


class ChannelNorm(nn.Module):
    """Root-mean-square norm over channels; `space` trailing axes in its parameter, as the format has them."""

    def __init__(self, dim: int, space: int = 3):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, *[1] * space))

    def forward(self, x):
        return F.normalize(x, dim=1) * x.shape[1] ** 0.5 * self.gamma


class NormSilu(ChannelNorm):
    """ChannelNorm, then SiLU."""

    def forward(self, x):
        return F.silu(super().forward(x))


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.residual = nn.Sequential(  # the format numbers the norm, the activation and a dropout one by one
            NormSilu(channels_in), nn.Identity(), CausalConv3d(channels_in, channels_out, 3),
            NormSilu(channels_out), nn.Identity(), nn.Identity(), CausalConv3d(channels_out, channels_out, 3),
        )  # fmt: skip
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else CausalConv3d(channels_in, channels_out, 1)

    def forward(self, x):
        return self.residual(x) + self.shortcut(x)


class FrameAttention(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.norm = ChannelNorm(dim, space=2)
        self.to_qkv, self.proj = nn.Conv2d(dim, 3 * dim, 1), nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        batch, _, frames, height, width = x.shape
        y = self.norm(x.transpose(1, 2).flatten(0, 1))
        q, k, v = (z.flatten(2).transpose(1, 2).unsqueeze(1) for z in self.to_qkv(y).chunk(3, 1))
        y = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).unflatten(2, (height, width))
        return x + self.proj(y).unflatten(0, (batch, frames)).transpose(1, 2)


def per_frame(layer, x):
    """Apply a 2-D layer to every frame of [B, C, T, H, W]."""
    return layer(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


class Downsample(nn.Module):
    def __init__(self, dim: int, time: bool):
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(dim, dim, 3, stride=2))
        self.time_conv = CausalConv3d(dim, dim, (3, 1, 1), (2, 1, 1), pad_time=False) if time else None

    def forward(self, x):
        x = per_frame(self.resample, x)
        if self.time_conv is None or x.shape[2] == 1:
            return x
        return torch.cat([x[:, :, :1], self.time_conv(x)], 2)  # the first frame stands alone


class Upsample(nn.Module):
    def __init__(self, dim: int, time: bool):
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest-exact"), nn.Conv2d(dim, dim // 2, 3, padding=1)
        )
        self.time_conv = CausalConv3d(dim, 2 * dim, (3, 1, 1)) if time else None

    def forward(self, x):
        if self.time_conv is not None and x.shape[2] > 1:
            doubled = self.time_conv(x[:, :, 1:]).unflatten(1, (2, -1))
            x = torch.cat([x[:, :, :1], torch.stack(doubled.unbind(1), 3).flatten(2, 3)], 2)
        return per_frame(self.resample, x)


class Encoder(nn.Module):
    def __init__(self, dim: int, channels: int):
        super().__init__()
        self.conv1 = CausalConv3d(3, dim, 3)
        layers, width = [], dim
        for level, factor in enumerate((1, 2, 4, 4)):
            for _ in range(2):
                layers.append(ResidualBlock(width, dim * factor))
                width = dim * factor
            if level < 3:
                layers.append(Downsample(width, time=level > 0))
        self.downsamples = nn.Sequential(*layers)
        self.middle = nn.Sequential(ResidualBlock(width, width), FrameAttention(width), ResidualBlock(width, width))
        self.head = nn.Sequential(NormSilu(width), nn.Identity(), CausalConv3d(width, channels, 3))

    def forward(self, x):
        return self.head(self.middle(self.downsamples(self.conv1(x))))


class Decoder(nn.Module):
    def __init__(self, dim: int, channels: int):
        super().__init__()
        width = 4 * dim
        self.conv1 = CausalConv3d(channels, width, 3)
        self.middle = nn.Sequential(ResidualBlock(width, width), FrameAttention(width), ResidualBlock(width, width))
        layers = []
        for level, factor in enumerate((4, 4, 2, 1)):
            for _ in range(3):
                layers.append(ResidualBlock(width, dim * factor))
                width = dim * factor
            if level < 3:
                layers.append(Upsample(width, time=level < 2))
                width //= 2
        self.upsamples = nn.Sequential(*layers)
        self.head = nn.Sequential(NormSilu(width), nn.Identity(), CausalConv3d(width, 3, 3))

    def forward(self, x):
        return self.head(self.upsamples(self.middle(self.conv1(x))))


class WanVae(nn.Module):
    """Clips [B, 3, 4 n + 1, H, W] in -1..1 <-> latents [B, 16, n + 1, H / 8, W / 8]."""

    def __init__(self, dim: int, channels: int = 16):
        super().__init__()
        self.encoder, self.decoder = Encoder(dim, 2 * channels), Decoder(dim, channels)
        self.conv1, self.conv2 = CausalConv3d(2 * channels, 2 * channels, 1), CausalConv3d(channels, channels, 1)

    def channels_last(self):
        """The layout that cuDNN's 3-D convolutions are faster in."""
        for module in self.modules():
            if isinstance(module, CausalConv3d):
                module.to(memory_format=torch.channels_last_3d)

    def encode(self, clip):
        """Mean and log variance of the latent."""
        return self.conv1(self.encoder(clip)).chunk(2, 1)

    def decode(self, latent):
        return self.decoder(self.conv2(latent))
