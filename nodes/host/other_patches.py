"""What the patches of other packs keep between calls: tensors of one size, found by looking, and how to undo it.

A run of several sizes cannot work with such tensors. What is looked at are the functions and objects in a guider's
model options (guidance functions, wrappers, block patches, attention overrides): their closures, attributes and
containers, not the weights.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from . import private, private_options

DEPTH = 10
LONGEST = 1000  # so many items of a container are looked at
MOST = 20_000  # things that are looked at in all
OWN = "jenga"  # in the keys of our wrappers
OPAQUE = (torch.nn.Module, types.ModuleType, type, str, bytes, int, float, torch.dtype, torch.device)


class KeepsSize(Exception):
    """A patch keeps a tensor of a small stage for the next step, so the size must not change."""


@dataclass(frozen=True)
class Kept:
    """All cells and containers that patches can keep something in, with what they held at the time."""

    cells: tuple[tuple[types.CellType, object], ...]
    containers: tuple[tuple[dict | list, dict | list], ...]

    @classmethod
    def of(cls, model_options: dict) -> "Kept":
        cells, containers = [], []
        for _, thing in _walk(model_options):
            if isinstance(thing, types.CellType):
                cells.append((thing, thing.cell_contents))
            elif isinstance(thing, dict | list):
                containers.append((thing, thing.copy()))
        return cls(tuple(cells), tuple(containers))

    def restore(self) -> None:
        """Put all of it back, for a run that starts again."""
        for cell, contents in self.cells:
            cell.cell_contents = contents
        for container, contents in self.containers:
            container.clear()
            container.update(contents) if isinstance(container, dict) else container.extend(contents)


def keepers(model_options: dict, size: tuple[int, int], patch: tuple[int, int], sampler: object = None) -> list[str]:
    """Names of the patches that keep a tensor of that latent height and width, or one number for each of its tokens.

    patch: latent rows and columns in one token. sampler: looked at too.
    """
    tokens = (size[0] // patch[0]) * (size[1] // patch[1])
    names: list[str] = []
    for name, thing in _walk(model_options, sampler):
        if isinstance(thing, torch.Tensor) and name not in names:
            rows = thing.ndim == 2 and thing.shape[1] == tokens
            if rows or (thing.ndim > 2 and tuple(thing.shape[-2:]) == size):
                names.append(name)
    return names


def _walk(model_options: dict, sampler: object = None) -> Iterator[tuple[str, object]]:
    """Everything that a patch in the options or the sampler holds, with the name of the one."""
    options = model_options.get("transformer_options", {})
    roots = [value for key, value in model_options.items() if key != "transformer_options" and OWN not in key]
    roots += [options[key] for key in private_options.HOLDERS if key in options]
    seen: set[int] = set()
    for patch in (*_patches(roots), *([] if sampler is None else [sampler])):
        yield from ((_name(patch), thing) for thing in _held(patch, DEPTH, seen))


def _patches(roots: list) -> Iterator[object]:
    """Functions and objects in nested dicts and lists; not our own."""
    for root in roots:
        if isinstance(root, dict):
            yield from _patches([value for key, value in root.items() if OWN not in str(key)])
        elif isinstance(root, list | tuple):
            yield from _patches(list(root))
        elif callable(root) and not hasattr(root, "jenga_patch"):
            yield root


def _held(thing: object, depth: int, seen: set[int]) -> Iterator[object]:
    if depth == 0 or id(thing) in seen or len(seen) > MOST or isinstance(thing, OPAQUE) or private.is_model(thing):
        return
    seen.add(id(thing))
    yield thing
    for inner in _inside(thing):
        yield from _held(inner, depth - 1, seen)


def _inside(thing: object) -> list:
    if isinstance(thing, torch.Tensor):
        return []
    if isinstance(thing, types.CellType):
        return [thing.cell_contents]
    if isinstance(thing, dict):
        return list(thing.values())[:LONGEST]
    if isinstance(thing, list | tuple | set | frozenset):
        return list(thing)[:LONGEST]
    if isinstance(thing, types.MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, types.FunctionType):
        return [*filter(_is_filled, thing.__closure__ or ()), *(thing.__defaults__ or ())]
    return [vars(thing)] if hasattr(thing, "__dict__") else []


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  an empty one raises
    except ValueError:
        return False
    return True


def _name(patch: object) -> str:
    """The class, or the node that made the function: APG.pre_cfg_function."""
    name = getattr(patch, "__qualname__", None) or type(patch).__qualname__
    return name.replace("<locals>.", "").replace(".execute.", ".")
