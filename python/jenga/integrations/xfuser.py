"""Carving in xfuser: its pipelines are diffusers' with other processors, so `jenga.integrations.diffusers.apply` takes
them too. xfuser exchanges sequence for heads and calls a registered attention function, which is ours here.

What is not public of xfuser: get_runtime_state().attention_backend, the key of the function that runs now. Sequences
that the ranks do not divide are padded with rows of zeros behind the video, which xfuser's dense attention attends too.
"""

import functools
from collections.abc import Iterable

import torch

from ..runtime.call import Block
from .ranks import refuse_ring


def is_xfuser(processor) -> bool:
    """Whether a processor is one of xfuser's, which call the registered function."""
    return type(processor).__module__.startswith("xfuser.") and hasattr(processor, "attention_function")


class AttentionFunction:
    """Our attention function, registered under its own key; hooks of the attention modules say which layer runs.

    current: a jenga.integrations.diffusers_attention.Current.
    """

    def __init__(self, current, layers: Iterable[tuple[torch.nn.Module, Block]]):
        from xfuser.core.distributed import get_ring_parallel_world_size
        from xfuser.core.distributed.attention_backend import ATTENTION_FUNCTION_REGISTRY, register_attention_function

        refuse_ring(get_ring_parallel_world_size(), "Use xfuser's ulysses_degree alone")
        self._current, self._registry = current, ATTENTION_FUNCTION_REGISTRY
        self._previous = self._state().attention_backend
        register_attention_function(self)(torch.compiler.disable(self._attention))
        self._state().attention_backend = self
        self._hooks = []
        for module, block in layers:
            enter = torch.compiler.disable(functools.partial(self._enter, block))
            self._hooks.append(module.register_forward_pre_hook(enter))
            self._hooks.append(module.register_forward_hook(torch.compiler.disable(self._leave), always_call=True))

    def undo(self) -> None:
        for hook in self._hooks:
            hook.remove()
        if self._state().attention_backend is self:  # nobody has chosen another one since
            self._state().attention_backend = self._previous
        self._registry.pop(self, None)

    @staticmethod
    def _state():
        from xfuser.core.distributed import get_runtime_state

        return get_runtime_state()

    def _enter(self, block: Block, module, args) -> None:
        self._current.enter(block)

    def _leave(self, module, args, output) -> None:
        self._current.leave()

    def _attention(self, query, key, value, dropout_p=0.0, is_causal=False, attention_kwargs=None):
        """[B, heads of this rank, S, D] -> (the same, None). Keys may be fewer than queries: padding rows are cut off
        them, and what these rows of the output are is thrown away.
        """

        def dense(q: torch.Tensor) -> torch.Tensor:
            before = self._registry[self._previous]
            return before(q, key, value, dropout_p=dropout_p, is_causal=is_causal, attention_kwargs=attention_kwargs)[0]

        keys = key.shape[2]
        whole = query[:, :, :keys]
        masked = is_causal or (attention_kwargs or {}).get("attn_mask") is not None
        out = None if masked else self._current.attend(whole, key, value, None, None, lambda: dense(whole))
        if out is None:
            return dense(query), None
        padding = query.shape[2] - keys
        return (torch.nn.functional.pad(out, (0, 0, 0, padding)) if padding else out), None
