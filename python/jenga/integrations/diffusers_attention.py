"""The two ways by which diffusers' self-attention calls come to `jenga.runtime.session.attend`.

A processor that calls the library's dispatcher has a backend, which we replace by ours; hooks of its attention module
say which layer runs. A processor that calls torch's attention itself is wrapped, and the call is caught inside it.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from ..runtime.call import Block
from ..runtime.carved_call import CarvedCall
from ..runtime.session import attend
from . import diffusers_private as private
from .diffusers_families import Family
from .diffusers_parallel import RING_REMEDY
from .ranks import heads_of_rank, joint_order, refuse_ring

_numbers = itertools.count()


class Current(threading.local):
    """What this thread computes now: the model call, and in it the block whose self-attention runs.

    calls: one CarvedCall, or one for each sample of the batch where a family attends sample by sample; empty outside a
    run. num_tokens: of video and of context in the whole sequence, for sequences that several GPUs share.
    """

    calls: tuple[CarvedCall, ...] = ()
    block: Block | None = None
    num_tokens: tuple[int, int] = (0, 0)
    attended: int = 0
    _sample: int = 0
    _text_mask: torch.Tensor | None = None
    _mask: tuple = (None, None)

    def begin(self, calls: tuple[CarvedCall, ...], num_tokens: tuple[int, int]) -> None:
        self.calls, self.num_tokens, self.attended, self._mask = calls, num_tokens, 0, (None, None)

    def end(self) -> None:
        self.calls, self._mask = (), (None, None)

    def enter(self, block: Block, text_mask: torch.Tensor | None = None) -> None:
        self.block, self._text_mask, self._sample = block, text_mask, 0

    def leave(self) -> None:
        self.block = self._text_mask = None

    def attend(self, q, k, v, mask, scale, dense: Callable[[], torch.Tensor]) -> torch.Tensor | None:
        """Self-attention of q k v [B, H, S, D]; None where it is not for us."""
        if self.block is None or not self.calls or q.shape != k.shape:
            return None
        call = self.calls[min(self._sample, len(self.calls) - 1)]
        self._sample += 1
        if self._sample == 1:
            self.attended += 1
        return attend(call, self.block, q, k, v, self._key_mask(mask, q.shape[2]), scale, dense)

    def _key_mask(self, mask, tokens: int) -> torch.Tensor | None:
        """The mask; where it was made of the text's, that one for all tokens, one object a model call."""
        if mask is None or self._text_mask is None:
            return mask
        if self._mask[0] is not self._text_mask:
            text = self._text_mask.bool()
            self._mask = (self._text_mask, F.pad(text, (tokens - text.shape[1], 0), value=True))
        return self._mask[1]


class Backend:
    """Our attention backend of one transformer, on the processors of its layers."""

    def __init__(self, current: Current, transformer: torch.nn.Module, family: Family):
        self._current, self._square_mask = current, family.square_mask
        self._member = private.register_backend(f"jenga_{next(_numbers)}", torch.compiler.disable(self._attention))
        self._previous: list[tuple] = []
        self._hooks = []
        for module in transformer.modules() if family.head_masks else ():
            self._replace(getattr(module, "processor", None))
        for module, block in family.layers(transformer):
            self._replace(module.processor)
            enter = torch.compiler.disable(functools.partial(self._enter, block))
            leave = torch.compiler.disable(self._leave)
            self._hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            self._hooks.append(module.register_forward_hook(leave, always_call=True))

    def undo(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for processor, previous in self._previous:
            private.restore_backend(processor, self._member, previous)
        private.unregister_backend(self._member)

    def _replace(self, processor) -> None:
        # One processor may serve several modules.
        if getattr(processor, "_attention_backend", self._member) is not self._member:
            self._previous.append((processor, private.set_backend(processor, self._member)))

    def _enter(self, block: Block, module, args, kwargs) -> None:
        self._current.enter(block, kwargs.get("attention_mask") if self._square_mask else None)

    def _leave(self, module, args, output) -> None:
        self._current.leave()

    def _attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
        _parallel_config=None,
    ) -> torch.Tensor:
        """[B, S, H, D], of this rank where ranks share a sequence -> the same shape. The names are the library's."""
        if is_causal or enable_gqa:
            raise ValueError("carving: is_causal and enable_gqa must be False, got a call with one of them")
        if _parallel_config is None:
            return self._whole(query, key, value, attn_mask, scale)
        ranks, ring = private.degrees(_parallel_config)
        refuse_ring(ring, RING_REMEDY)
        order = joint_order(*self._current.num_tokens, ranks) if self._current.block else None
        heads, rank = query.shape[2], torch.distributed.get_rank(private.group_of(_parallel_config))

        def inner(q, k, v, mask):
            mask = heads_of_rank(mask, heads, q.shape[2], rank, ranks)
            if order is None:
                return self._whole(q, k, v, mask, scale)
            return order.back(self._whole(*(order.raster(x) for x in (q, k, v)), mask, scale))

        return private.exchanged(query, key, value, attn_mask, scale, _parallel_config, inner)

    def _whole(self, query, key, value, mask, scale) -> torch.Tensor:
        """All tokens, of some or all heads."""

        def dense() -> torch.Tensor:
            return private.dispatch(query, key, value, mask, scale, self._previous[0][1]).transpose(1, 2)

        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        out = self._current.attend(q, k, v, mask, scale, dense)
        return (dense() if out is None else out).transpose(1, 2)


class Processors:
    """Wrapped processors on the layers of one transformer, for processors that call torch's attention themselves."""

    def __init__(self, current: Current, layers: Iterable[tuple[torch.nn.Module, Block]]):
        self._replaced = []
        for module, block in layers:
            inner, wrapper = module.processor, _wrap_processor(module.processor, current, block)
            module.processor = wrapper
            self._replaced.append((module, inner, wrapper))

    def undo(self) -> None:
        for module, inner, wrapper in self._replaced:
            if module.processor is wrapper:
                module.processor = inner


def _wrap_processor(inner, current: Current, block: Block):
    """A processor that calls `inner` and has its signature, by which the library chooses the arguments."""

    @torch.compiler.disable
    @functools.wraps(type(inner).__call__)
    def call(self, *args, **kwargs):
        current.enter(block)
        try:
            with _CatchAttention(current):
                return inner(*args, **kwargs)
        finally:
            current.leave()

    return type(f"Carved{type(inner).__name__}", (), {"__call__": call, "inner": inner})()


class _CatchAttention(TorchFunctionMode):
    """Hands calls of torch's attention on."""

    def __init__(self, current: Current):
        super().__init__()
        self._current = current

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        names = ("query", "key", "value", "attn_mask")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        q, k, v = (given[name] for name in names[:3])
        out = self._current.attend(q, k, v, given.get("attn_mask"), given.get("scale"), lambda: func(*args, **kwargs))
        return func(*args, **kwargs) if out is None else out
