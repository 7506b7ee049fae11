"""The arithmetic of progressive resolution: sizes, noise, resizing, schedules. Plain torch; a host does the sampling.

The noise of a small stage is the low-frequency corner of the full-size noise in an orthonormal DCT over H and W: it
is white again, and a run shares its large shapes with the full-size run of the same seed (ours).
"""

import math
from itertools import groupby

import torch
import torch.nn.functional as F

from .presets import Stage

RESIZE_MODES = ("bicubic", "bilinear", "nearest-exact", "dct")


def stage_size(size: tuple[int, int], scale: float, multiple: tuple[int, int]) -> tuple[int, int]:
    """Latent height and width of a stage, rounded down to whole patches; the full size as it is.

    Raises ValueError where not even one patch is left.
    """
    if scale == 1:
        return size
    small = tuple(int(side * scale) // patch * patch for side, patch in zip(size, multiple, strict=True))
    if 0 in small:
        raise ValueError(f"stage_size: scale must leave at least one patch of {multiple}, got {scale} of {size}")
    return small


def _dct_matrix(size: int) -> torch.Tensor:
    """Orthonormal DCT-II, float64 [size, size]: row k is frequency k."""
    position = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * position[:, None] * (position + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def _dct_map(source: int, target: int, like: torch.Tensor) -> torch.Tensor:
    """[target, source] with the dtype and device of `like`: DCT, keep or zero-pad frequencies, inverse DCT.

    Orthonormal rows or columns. Made in float64 on the CPU: MPS and XPU have no float64.
    """
    kept = min(source, target)
    exact = _dct_matrix(target)[:kept].T @ _dct_matrix(source)[:kept]
    return exact.to(like.dtype).to(like.device)


def dct_resize(x: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """[..., h, w] with the frequencies that both sizes have, of an orthonormal DCT: the others are cut or zero."""
    rows, columns = _dct_map(x.shape[-2], h, x), _dct_map(x.shape[-1], w, x)
    return rows @ x @ columns.T


def dct_truncate(noise: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """White noise [..., H, W] -> white noise [..., h, w] of the same variance with the same low frequencies.

    Raises ValueError where h or w is larger than the noise.
    """
    if h > noise.shape[-2] or w > noise.shape[-1]:
        raise ValueError(f"dct_truncate: size must be at most {tuple(noise.shape[-2:])}, got {(h, w)}")
    return noise.clone() if (h, w) == tuple(noise.shape[-2:]) else dct_resize(noise, h, w)


def resize(x: torch.Tensor, h: int, w: int, mode: str) -> torch.Tensor:
    """A latent [B, C, H, W] or [B, C, T, H, W] at another height and width; frames one by one, means kept.

    mode: one of RESIZE_MODES; bicubic and bilinear are anti-aliased, dct keeps every frequency that both sizes have.
    """
    if (h, w) == tuple(x.shape[-2:]):
        return x
    if mode == "dct":
        return dct_resize(x, h, w) * math.sqrt(h * w / (x.shape[-2] * x.shape[-1]))
    frames = x if x.ndim == 4 else x.movedim(2, 1).flatten(0, 1)
    antialias = {"antialias": True} if mode in ("bicubic", "bilinear") else {}
    frames = F.interpolate(frames, size=(h, w), mode=mode, **antialias)
    return frames if x.ndim == 4 else frames.unflatten(0, (x.shape[0], x.shape[2])).movedim(1, 2)


def shift_sigmas(sigmas: torch.Tensor, ratio: float, flow: bool, sigma_max: float) -> torch.Tensor:
    """The schedule with its shift multiplied by `ratio`: flow r s / (1 + (r - 1) s), else min(r s, sigma_max)."""
    if ratio == 1:
        return sigmas
    return ratio * sigmas / (1 + (ratio - 1) * sigmas) if flow else (ratio * sigmas).clamp_max(sigma_max)


def text_amplifier(size: tuple[int, int], full_size: tuple[int, int]) -> float:
    """Natural-log bias of text logits in a small stage: -1/2 ln(tokens / full tokens). Source: paper."""
    return -0.5 * math.log(size[0] * size[1] / (full_size[0] * full_size[1]))


def stage_seed(seed: int, index: int) -> int:
    """A seed of its own for every stage after the first, so that no stage repeats another's random numbers."""
    return (seed + index * 0x9E3779B97F4A7C15) % 2**64 if index else seed


def passes(stages: tuple[Stage, ...]) -> list[list[Stage]]:
    """Stages that one sampler call can run together: same size and schedule, only the density differs."""
    return [list(group) for _, group in groupby(stages, key=lambda stage: (stage.scale, stage.shift_ratio))]


def boundary_by_sigma(sigmas: torch.Tensor, sigma: float) -> int:
    """Number of steps that start at or above `sigma`: where a part of a schedule leaves a stage."""
    return int((sigmas[:-1] >= sigma * (1 - 1e-6)).sum())
