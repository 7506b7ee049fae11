"""Names in ComfyUI's modules that are not public API and that the nodes need: one function for each thing.

Public are `comfy_api.v…`, and of a MODEL, a guider and an executor of a wrapper what every node pack uses of them. A
name is looked up when it is used, so that one that has moved costs what needs it and not the pack. What a model call
and a model tell is in private_options.py.

| what | where ComfyUI keeps it | if it is gone |
|---|---|---|
| kinds of wrappers | comfy.patcher_extension | only *Jenga Compare* and *Jenga Report* run |
| the order of wrappers | ModelPatcher.wrappers | the node *Jenga* fails |
| its start options | comfy.cli_args.args.use_..._attention | anchors keep to ComfyUI's own attention |
| attention functions | comfy.ldm.modules.attention | *Jenga A/B* fails |
| a copy of a model's options | comfy.model_patcher.create_model_options_clone | stages fail |
| what a MODEL is | comfy.model_patcher.ModelPatcher | one that a patch holds is searched for tensors too |
| compiled models | comfy_api.torch_helpers.torch_compile.TORCH_COMPILE_KWARGS | no model is compiled anew |
| the memory graph of a call, in newer versions | comfy.model_prefetch.pause_malloc_graph | all memory is usual memory |
| memory of a device | comfy.model_management.soft_empty_cache | a repeated model call may be short of memory |
| the device of results | comfy.model_management.intermediate_device | results stay on the device of the samples |
| packed and nested latents | comfy.utils, comfy.nested_tensor | video with audio fails in stages |
| an empty latent, noise, a sampler run | comfy.sample | the sampler and *Jenga A/B* fail |
| names of samplers and schedulers | comfy.samplers.KSampler | *Jenga A/B* is not there |
| the Euler sampler | comfy.samplers.sampler_object | a sampler without callbacks fails in stages |
| flow models | comfy.model_sampling.CONST | stages fail |
| progress and previews | comfy.utils, latent_preview | *Jenga A/B*, the sampler fail |
| text on a node | server.PromptServer | nodes say less |
| an output that blocks what is behind it | comfy_execution.graph_utils.ExecutionBlocker | *Jenga Report* needs frames |
| the time embedding of Wan | comfy.ldm.wan.model.sinusoidal_embedding_1d | its adaptive step reuse fails |
"""

import importlib
import inspect
from collections.abc import Callable
from contextlib import nullcontext

import torch

APPLY_MODEL, OUTER_SAMPLE = "APPLY_MODEL", "OUTER_SAMPLE"
PREDICT_NOISE, SAMPLER_SAMPLE = "PREDICT_NOISE", "SAMPLER_SAMPLE"  # kinds of wrappers, as those before


def _named(module: str, name: str):
    """A name of ComfyUI's, as it is now. Raises RuntimeError where this ComfyUI does not have it."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RuntimeError(
            f"Jenga: ComfyUI must have {module}.{name}, got a version without it; update this node pack, or go back to "
            "the ComfyUI before"
        ) from error


def _optional(module: str, name: str, otherwise=None):
    """The same for a name that the nodes can do without; `otherwise` where this ComfyUI does not have it."""
    try:
        return getattr(importlib.import_module(module), name, otherwise)
    except ImportError:
        return otherwise


def _kind(kind: str) -> str:
    return getattr(_named("comfy.patcher_extension", "WrappersMP"), kind)


def wrap(model, kind: str, key: str, wrapper: Callable) -> None:
    """A wrapper of that kind on a MODEL."""
    model.add_wrapper_with_key(_kind(kind), key, wrapper)


def wrap_first(model, kind: str, key: str, wrapper: Callable) -> None:
    """A wrapper that goes before all others of a MODEL."""
    model.wrappers[_kind(kind)] = {key: [wrapper], **model.wrappers.get(_kind(kind), {})}


def wrap_options(model_options: dict, kind: str, key: str, wrapper: Callable) -> None:
    """A wrapper in the options of one sampler call: ComfyUI puts these before those of the MODEL."""
    add = _named("comfy.patcher_extension", "add_wrapper_with_key")
    add(_kind(kind), key, wrapper, model_options, is_model_options=True)


def wrappers_of(model, kind: str, key: str) -> list[Callable]:
    """A MODEL's wrappers of that kind and key."""
    return model.get_wrappers(_kind(kind), key)


def unwrap(model, kind: str, key: str) -> None:
    """Take the wrappers of that kind and key off a MODEL."""
    model.remove_wrappers_with_key(_kind(kind), key)


def special_attention_chosen() -> bool:
    """Whether ComfyUI was started with an attention function by name that is not torch's: then anchors keep to it."""
    args = _optional("comfy.cli_args", "args")
    names = ("split_cross", "quad_cross", "sage", "flash")
    return args is None or any(getattr(args, f"use_{name}_attention", False) for name in names)


def attention_in_use() -> Callable:
    """The attention function that ComfyUI has chosen for this machine."""
    return _named("comfy.ldm.modules.attention", "optimized_attention")


def other_attention() -> Callable:
    """An exact attention function of ComfyUI that is not the one in use. Both need little memory."""
    pytorch = _named("comfy.ldm.modules.attention", "attention_pytorch")
    choices = pytorch, _named("comfy.ldm.modules.attention", "attention_sub_quad")
    return next(choice for choice in choices if choice.__name__ != attention_in_use().__name__)


def clone_options(model_options: dict) -> dict:
    """A copy of a model's options, free to write."""
    return _named("comfy.model_patcher", "create_model_options_clone")(model_options)


def is_compiled(model_options: dict) -> bool:
    """Whether the model runs through torch.compile."""
    return _optional("comfy_api.torch_helpers.torch_compile", "TORCH_COMPILE_KWARGS") in model_options


def is_model(thing: object) -> bool:
    """Whether something is a MODEL."""
    return isinstance(thing, _optional("comfy.model_patcher", "ModelPatcher", ()))


def is_flow(model_sampling) -> bool:
    """Whether a model's noise levels are those of a flow: latent and noise mixed in the shares 1 - sigma and sigma."""
    return isinstance(model_sampling, _named("comfy.model_sampling", "CONST"))


def wan_time_embedding(size: int, time: torch.Tensor) -> torch.Tensor:
    """Wan's sinusoidal embedding of times [B]: [B, size]."""
    return _named("comfy.ldm.wan.model", "sinusoidal_embedding_1d")(size, time)


def pack(parts: list[torch.Tensor]) -> torch.Tensor:
    """Latents of several parts as one, [B, 1, N]."""
    return _named("comfy.utils", "pack_latents")(parts)[0]


def unpack(x: torch.Tensor, shapes) -> list[torch.Tensor]:
    """The parts of a packed latent, of those shapes."""
    return _named("comfy.utils", "unpack_latents")(x, shapes)


def nested(parts: list[torch.Tensor]):
    """A latent of several parts as it goes along the wires of a graph."""
    return _named("comfy.nested_tensor", "NestedTensor")(parts)


def fix_empty_latent(model, latent: dict) -> torch.Tensor:
    """The latent with the channels and scale of the MODEL, where it is empty. Its arguments grew with ComfyUI."""
    fix = _named("comfy.sample", "fix_empty_latent_channels")
    names = list(inspect.signature(fix).parameters)[2:]
    return fix(model, latent["samples"], *(latent.get(name) for name in names))


def noise_for(latent: torch.Tensor, seed: int, batch_index) -> torch.Tensor:
    """What the stock samplers draw for a latent from that seed."""
    return _named("comfy.sample", "prepare_noise")(latent, seed, batch_index)


def sample(model, noise: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    """What the stock KSampler calls, with the same arguments."""
    return _named("comfy.sample", "sample")(model, noise, *args, disable_pbar=hides_progress(), **kwargs)


def sampler_names() -> tuple[list[str], list[str]]:
    """Samplers and schedulers."""
    return tuple(getattr(_named("comfy.samplers", "KSampler"), name) for name in ("SAMPLERS", "SCHEDULERS"))


def euler_sampler():
    """A SAMPLER."""
    return _named("comfy.samplers", "sampler_object")("euler")


def lasting_memory():
    """Context manager: what is made in it may outlive the model call, whose other memory may be planned."""
    return _optional("comfy.model_prefetch", "pause_malloc_graph", nullcontext)()


def free_memory() -> None:
    """Give back what is cached on the device in use."""
    _optional("comfy.model_management", "soft_empty_cache", bool)()


def on_result_device(x):
    """A latent where ComfyUI wants results."""
    device = _optional("comfy.model_management", "intermediate_device")
    return x if device is None else x.to(device())


def hides_progress() -> bool:
    """Whether bars in the terminal are switched off."""
    return not _optional("comfy.utils", "PROGRESS_BAR_ENABLED", True)


def progress_bar(total: int):
    """A bar of so many units on the node that runs."""
    return _named("comfy.utils", "ProgressBar")(total)


def preview_callback(model, steps: int, found: dict) -> Callable:
    """A sampler's callback that shows previews and leaves the last prediction in found["x0"]."""
    return _named("latent_preview", "prepare_callback")(model, steps, found)


def show_text(node_id: str, text: str) -> None:
    """Text on a node. Nothing happens where no page is listening."""
    if server := getattr(_optional("server", "PromptServer"), "instance", None):
        server.send_progress_text(text, node_id)


def blocker(reason: str):
    """A node's output that stops whatever takes it, with the reason."""
    return _named("comfy_execution.graph_utils", "ExecutionBlocker")(reason)
