"""Everything of ComfyUI's that is not public API and that running a patched model needs: one function for each thing.

| what | where ComfyUI keeps it | if it is gone |
|---|---|---|
| the attention override | transformer_options["optimized_attention_override"] | nothing is carved; a run says so |
| a model call's arguments | BaseModel.apply_model's parameter names | they are taken in the order of 0.30 |
| conditionings of a batch | transformer_options "uuids", "cond_or_uncond" | parts are told apart by their place |
| the context window | transformer_options["context_window"].index_list | windows of one size share what is kept |
| a guidance pass | transformer_options "patches_replace", "patches" | passes are told apart by their number |
| weight hooks | model.current_patcher.current_hooks | runs with hooks on a schedule reuse across strengths |
| steps of a sampler call | transformer_options["sample_sigmas"] | anchors take every run for a long one |
| the noise level | transformer_options["sigmas"] | start_percent and end_percent carve everything |
| the block that runs | transformer_options "block_type", "block_index", "total_blocks" | calls are counted |
| its start options | comfy.cli_args.args.use_..._attention | anchors keep to ComfyUI's own attention |
| attention functions | comfy.ldm.modules.attention | *Jenga A/B* is not there |
| the grid of Wan's tokens | transformer_options["grid_sizes"] | other patches are tried for an unknown model |
| a copy of a model's options | comfy.model_patcher.create_model_options_clone | a run with stages fails and names it |
| EasyCache | transformer_options["easycache"] | skipped calls count as computed, unsaid |
| the diffusion model behind torch.compile | OptimizedModule._orig_mod | a compiled model is not known |
| compiled models | comfy_api.torch_helpers.torch_compile.TORCH_COMPILE_KWARGS | no model is compiled anew |
"""

import math
from collections.abc import Hashable

import torch

from jenga.runtime.call import Block

OVERRIDE = "optimized_attention_override"
SCHEDULE = "sample_sigmas"
PASS_SCHEDULE = "jenga_pass_sigmas"  # transformer_options: the part of the schedule that runs at one size


def steps_of(options: dict) -> float:
    """Steps of the sampler call, which has one size; infinity where they are not told."""
    sigmas = options.get(PASS_SCHEDULE, options.get(SCHEDULE))
    return math.inf if sigmas is None else len(sigmas) - 1


def sigma_of(options: dict) -> torch.Tensor | None:
    """The noise level of a model call, still on its device."""
    sigmas = options.get("sigmas")
    return None if sigmas is None else sigmas.flatten()[0]


def conditionings_of(model, options: dict) -> tuple[Hashable, ...]:
    """What tells the parts of a batch apart: the host's conditioning, the frames of a context window, the strengths of
    weight hooks, which may follow a schedule, and the patches of a guidance pass, which may come in a part of the
    schedule alone, before the usual pass or after it. One entry for each equal part, no two alike.
    """
    window = options.get("context_window")
    frames = None if window is None else tuple(window.index_list)
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
    if index is None:
        return None
    return Block(options.get("block_type", ""), index, options.get("total_blocks", 0))


def module_of(model) -> torch.nn.Module:
    """The diffusion model of a BaseModel, also while a compile node has put its compiled form in its place."""
    return getattr(model.diffusion_model, "_orig_mod", model.diffusion_model)


def patches_of(options: dict, latent_shape: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """The patch that the grid of a running model says; none where it says none. Frames of references may be in it, so
    that of time only a grid with fewer frames than the latent tells anything.
    """
    grid = options.get("grid_sizes")
    if grid is None or len(grid) != 3:
        return ()
    frames, rows, columns = (max(1, -(-size // side)) for size, side in zip(latent_shape[-3:], grid, strict=True))
    return ((frames, rows, columns),)


def step_cache_of(options: dict) -> str:
    """The name of a step cache of ComfyUI's on this model; empty where there is none."""
    cache = options.get("easycache")
    return "" if cache is None else cache.name


def attention_chosen_by_name() -> bool:
    """Whether ComfyUI was started with an attention function by name: then anchors keep to it."""
    try:
        from comfy.cli_args import args
    except ImportError:
        return True
    names = ("split_cross", "quad_cross", "pytorch_cross", "sage", "flash")
    return any(getattr(args, f"use_{name}_attention", False) for name in names)


def attention_in_use():
    """The attention function that ComfyUI has chosen for this machine."""
    from comfy.ldm.modules import attention

    return attention.optimized_attention


def other_attention():
    """An exact attention function of ComfyUI that is not the one in use. Both need little memory."""
    from comfy.ldm.modules import attention

    choices = (attention.attention_pytorch, attention.attention_sub_quad)
    return next(choice for choice in choices if choice.__name__ != attention_in_use().__name__)


def clone_options(model_options: dict) -> dict:
    """A copy of a model's options, free to write."""
    from comfy.model_patcher import create_model_options_clone

    return create_model_options_clone(model_options)


def is_compiled(model_options: dict) -> bool:
    """Whether the model runs through torch.compile."""
    try:
        from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS
    except ImportError:
        return False
    return TORCH_COMPILE_KWARGS in model_options
