"""Conditions of the latent's size: those that follow the size of a stage, and those that do not. Families name them."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial

import torch

from jenga.sampling.resolution import resize

from .families import condition_rules


class Conditions:
    """The conditions of one run of a MODEL: guider.conds, and the latent's full height and width."""

    def __init__(self, patcher, conds: dict[str, list[dict]], size: tuple[int, int]):
        self._conds, self._size = conds, size
        self._resized: Mapping[str, str]
        self._resized, self._fixed = condition_rules(patcher)

    def fixed(self) -> list[str]:
        """What in them cannot follow the size of a stage."""
        every = [cond for group in self._conds.values() for cond in group]
        names = [key for key in self._fixed if any(cond.get(key) is not None for cond in every)]
        names += [
            f"{key} of another size"
            for key in self._resized
            if any(self._ratio(x) is None for cond in every for x in _tensors(cond.get(key)))
        ]
        return names + (["area"] if any(cond["area"][0] != "percentage" for cond in every if "area" in cond) else [])

    def at(self, size: tuple[int, int]) -> dict[str, list[dict]]:
        """For a latent of that height and width; copies, since sampling writes into them what it made for one size."""
        conds = {name: [cond.copy() for cond in group] for name, group in self._conds.items()}
        if size == self._size:
            return conds
        for cond in (cond for group in conds.values() for cond in group):
            for key, mode in self._resized.items():
                if cond.get(key) is not None:
                    cond[key] = _changed(cond[key], partial(self._follow, size=size, mode=mode))
        return conds

    def _ratio(self, x: torch.Tensor) -> Fraction | None:
        """A condition's size over the latent's: a whole number or one over a whole number; None for any other."""
        rows, columns = (Fraction(side, full) for side, full in zip(x.shape[-2:], self._size, strict=True))
        return rows if rows == columns and 1 in (rows.numerator, rows.denominator) else None

    def _follow(self, x: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
        ratio = self._ratio(x)
        return resize(x, *(max(1, round(side * ratio)) for side in size), mode)


def _tensors(condition) -> list[torch.Tensor]:
    """A condition's tensors."""
    found: list[torch.Tensor] = []
    if condition is not None:
        _changed(condition, found.append)
    return found


def _changed(condition, change: Callable):
    """A condition with change(tensor) in the place of each of its tensors: one, or those of a list, which in a dict are
    its latent.
    """
    if isinstance(condition, torch.Tensor):
        return change(condition)
    if isinstance(condition, Mapping):
        return {**condition, "latent": change(condition["latent"])}
    return [_changed(one, change) for one in condition]
