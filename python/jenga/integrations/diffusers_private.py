"""Everything of diffusers' that is not public API and that a carved pipeline needs: one function for each thing.

| what | where diffusers keeps it | if it is gone |
|---|---|---|
| attention backends | models.attention_dispatch, _AttentionBackendRegistry | apply raises what Python says |
| the backend of a processor | processor._attention_backend | nothing is carved; the run says so |
| the GPUs that share a sequence | processor._parallel_config | nothing is carved; the run says so |
| the exchange between them | attention_dispatch._templated_context_parallel_attention | the model call raises |
| the loops of a modular pipeline | pipeline._blocks | apply raises what Python says |
| steps that a cache skips | transformer.is_cache_enabled, _cache_config | skipped calls count as computed |
"""

from collections.abc import Callable

import torch


def register_backend(name: str, function: Callable):
    """One more attention backend of the library, for processors alone: nobody can choose it by name."""
    from diffusers.models import attention_dispatch as library

    member = str.__new__(library.AttentionBackendName, name)
    member._name_, member._value_ = name.upper(), name
    library._AttentionBackendRegistry.register(member, constraints=[], supports_context_parallel=True)(function)
    return member


def unregister_backend(member) -> None:
    from diffusers.models import attention_dispatch as library

    registry = library._AttentionBackendRegistry
    for table in (registry._backends, registry._constraints, registry._supported_arg_names):
        table.pop(member, None)
    registry._supports_context_parallel.discard(member.value)


def set_backend(processor, member):
    """The backend that the processor had (None: the library's active one), replaced by `member`."""
    previous, processor._attention_backend = processor._attention_backend, member
    return previous


def restore_backend(processor, member, previous) -> None:
    """`previous` again, unless somebody has chosen another one since."""
    if processor._attention_backend is member:
        processor._attention_backend = previous


def dispatch(q, k, v, mask, scale: float | None, backend) -> torch.Tensor:
    """The library's own attention of q k v [B, S, H, D] on this device alone."""
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    return dispatch_attention_fn(q, k, v, attn_mask=mask, scale=scale, backend=backend)


def degrees(parallel_config) -> tuple[int, int]:
    """(Ulysses, ring) degrees of a processor's parallel configuration; (1, 1) of none."""
    config = getattr(parallel_config, "context_parallel_config", None)
    return (1, 1) if config is None else (config.ulysses_degree, config.ring_degree)


def group_of(parallel_config):
    """The process group of the ranks that share a sequence."""
    return parallel_config.context_parallel_config._ulysses_mesh.get_group()


def exchanged(q, k, v, mask, scale: float | None, parallel_config, inner: Callable) -> torch.Tensor:
    """The library's Ulysses attention. q k v [B, S of this rank, H, D] -> the same shape.

    inner(q, k, v, mask) is called between the two exchanges with [B, S of all ranks, heads of this rank, D].
    """
    from diffusers.models import attention_dispatch as library

    def forward_op(ctx, query, key, value, attn_mask, *args, **kwargs):
        return inner(query, key, value, attn_mask)

    return library._templated_context_parallel_attention(
        q, k, v, mask, scale=scale, forward_op=forward_op, backward_op=None, _parallel_config=parallel_config
    )


def loops_of(pipeline) -> list:
    """What opens a progress bar around denoising steps: a pipeline, or blocks of a modular one."""
    if hasattr(pipeline, "progress_bar"):
        return [pipeline]
    found, left = [], [pipeline._blocks]
    while left:
        block = left.pop()
        found += [block] if hasattr(block, "progress_bar") else []
        left += block.sub_blocks.values()
    return found


def step_cache_of(transformer) -> str:
    """The name of the library's step cache on this transformer; empty where there is none."""
    enabled = getattr(transformer, "is_cache_enabled", False)
    return type(transformer._cache_config).__name__.removesuffix("Config") if enabled else ""
