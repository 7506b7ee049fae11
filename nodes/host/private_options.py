"""What ComfyUI keeps in the options of a model call and on models and that is not public API: one function for each.

These are keys and attributes; names that have to be looked up in ComfyUI's modules are in private.py.

| what | where ComfyUI keeps it | if it is gone |
|---|---|---|
| the attention override | transformer_options["optimized_attention_override"] | nothing is carved; a run says so |
| a model call's arguments | BaseModel.apply_model's parameter names | they are taken in the order of 0.30 |
| conditionings of a batch | transformer_options "uuids", "cond_or_uncond" | parts are told apart by their place |
| the context window | transformer_options["context_window"].index_list | those that move may share what is kept |
| a guidance pass | transformer_options "patches_replace", "patches" | passes are told apart by their number |
| weight hooks | model.current_patcher.current_hooks | runs with hooks on a schedule reuse across strengths |
| steps of a sampler call | transformer_options["sample_sigmas"] | anchors take every run for a long one |
| the noise level | transformer_options["sigmas"] | it is what the model call is given |
| the block that runs | transformer_options "block_type", "block_index", "total_blocks" | attention is counted |
| the grid of Wan's tokens | transformer_options["grid_sizes"] | other patches are tried for an unknown model |
| EasyCache | transformer_options["easycache"] | skipped calls count as computed, unsaid |
| the diffusion model behind torch.compile | OptimizedModule._orig_mod | a compiled model is not known |
| GPUs of conditionings | transformer_options["multigpu_thread_device"] | `devices` auto takes busy ones |
"""

import math
from collections.abc import Hashable

import torch

from jenga.runtime.call import Block

# Keys of transformer_options.
OVERRIDE = "optimized_attention_override"
SCHEDULE = "sample_sigmas"
PASS_SCHEDULE = "jenga_pass_sigmas"  # ours: the part of the schedule that runs at one size
HOLDERS = ("patches", "patches_replace", "wrappers", OVERRIDE)  # where patches put themselves


def steps_of(options: dict) -> float:
    """Steps of the sampler call, which has one size; infinity where they are not told."""
    sigmas = options.get(PASS_SCHEDULE, options.get(SCHEDULE))
    return math.inf if sigmas is None else len(sigmas) - 1


def sigma_of(options: dict) -> torch.Tensor | None:
    """The noise level of a model call, still on its device."""
    return None if options.get("sigmas") is None else options["sigmas"].flatten()[0]


def conditionings_of(model, options: dict) -> tuple[Hashable, ...]:
    """What tells equal parts of a batch apart: conditioning, window of frames, weight hooks, patches of a pass."""
    frames = tuple(getattr(options.get("context_window"), "index_list", ()))
    hooks = getattr(getattr(model, "current_patcher", None), "current_hooks", None)
    weights = None if hooks is None else tuple((id(hook.hook_ref), hook.strength) for hook in hooks.hooks)
    parts = list(options.get("uuids") or options.get("cond_or_uncond") or [None])
    rest = (frames, weights, _patches(options))
    return tuple((part, parts[:index].count(part), *rest) for index, part in enumerate(parts))


def _patches(options: dict) -> Hashable:
    """Which patches this call runs with: by their code, since guidance makes the functions anew at every step."""
    replaced = options.get("patches_replace", {}).items()
    blocks = frozenset((kind, place, _code(patch)) for kind, places in replaced for place, patch in places.items())
    added = frozenset((kind, tuple(map(_code, patches))) for kind, patches in options.get("patches", {}).items())
    return blocks, added, _code(options.get(OVERRIDE))


def _code(patch) -> Hashable:
    return getattr(patch, "__code__", type(patch))


def block_of(options: dict) -> Block | None:
    """The transformer block that runs; None where the model does not say."""
    index = options.get("block_index")
    return None if index is None else Block(options.get("block_type", ""), index, options.get("total_blocks", 0))


def module_of(model) -> torch.nn.Module:
    """The diffusion model of a BaseModel, also while a compile node has put its compiled form in its place."""
    return getattr(model.diffusion_model, "_orig_mod", model.diffusion_model)


def patches_of(options: dict, latent_shape: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """The patch that follows from a running model's grid; none where it tells no grid. The grid may count frames of
    references too, so a patch in time shows only in one with fewer frames than the latent.
    """
    grid = options.get("grid_sizes")
    if grid is None or len(grid) != 3:
        return ()
    frames, rows, columns = (max(1, -(-size // side)) for size, side in zip(latent_shape[-3:], grid, strict=True))
    return ((frames, rows, columns),)


def step_cache_of(options: dict) -> str:
    """The name of a step cache of ComfyUI's on this model; empty where there is none."""
    return getattr(options.get("easycache"), "name", "")


def occupied_devices(options: dict) -> str:
    """Why other GPUs are at work on the same prediction; empty where they are not."""
    return "" if options.get("multigpu_thread_device") is None else "the GPUs compute other conditionings meanwhile"
