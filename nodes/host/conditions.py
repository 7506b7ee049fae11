"""Conditions of the latent's size: those that follow the size of a stage, and those that do not. Families name them."""

import torch

from jenga.sampling.resolution import resize

from .families import FIXED, RESIZED


def fixed(conds: dict[str, list[dict]], size: tuple[int, int]) -> list[str]:
    """What in the conditions cannot follow the size of a stage. size: the latent's full height and width."""
    every = [cond for group in conds.values() for cond in group]
    names = [key for key in FIXED if any(cond.get(key) is not None for cond in every)]
    names += [
        f"{key} of another size"
        for key in RESIZED
        if any(x.shape[-2:] != size for cond in every for x in _tensors(cond.get(key)))
    ]
    return names + (["area"] if any(cond["area"][0] != "percentage" for cond in every if "area" in cond) else [])


def resize_all(conds: dict[str, list[dict]], size: tuple[int, int]) -> None:
    """Put copies of latent height and width `size` in the place of the conditions RESIZED."""
    for cond in (cond for group in conds.values() for cond in group):
        for key, mode in RESIZED.items():
            if cond.get(key) is not None:
                resized = [resize(x, *size, mode) for x in _tensors(cond[key])]
                cond[key] = resized[0] if isinstance(cond[key], torch.Tensor) else resized


def _tensors(condition) -> list[torch.Tensor]:
    """A condition's tensors: none, one, or those of a list."""
    return [] if condition is None else [condition] if isinstance(condition, torch.Tensor) else list(condition)
