"""Seconds of one evaluation of a MODEL and of the attention in it, and attention by cuDNN in the stock one's place."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.host.library import pack_module
from jenga.runtime.measure import Stopwatch

OVERRIDE = "optimized_attention_override"


@dataclass(frozen=True)
class Measured:
    """One evaluation: seconds, those in attention, and peak bytes on the device (None on a CPU)."""

    seconds: float
    attention: float
    peak: int | None


class Meter:
    """Measures the evaluations of a clone of a MODEL: outside of every other wrapper and every other override."""

    def __init__(self, patcher):
        from comfy.patcher_extension import WrappersMP

        self.patcher, self.measured = patcher.clone(), None
        self._watches: list[Stopwatch] = []
        options = self.patcher.model_options["transformer_options"]
        self._inner = options.get(OVERRIDE)
        options[OVERRIDE] = self._attention
        self.patcher.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "full_model", self._evaluation)

    def _attention(self, func: Callable, q, *args, **kwargs):
        watch = Stopwatch(q.device)
        out = func(q, *args, **kwargs) if self._inner is None else self._inner(func, q, *args, **kwargs)
        self._watches.append(watch.stop())
        return out

    def _evaluation(self, executor, x, *args, **kwargs):
        on_gpu = x.device.type == "cuda"
        self._watches.clear()
        if on_gpu:
            torch.cuda.synchronize(x.device)
            torch.cuda.reset_peak_memory_stats(x.device)
        start = time.perf_counter()
        out = executor(x, *args, **kwargs)
        if on_gpu:
            torch.cuda.synchronize(x.device)
        seconds = time.perf_counter() - start
        attention = sum(watch.seconds() for watch in self._watches)
        self.measured = Measured(seconds, attention, torch.cuda.max_memory_allocated(x.device) if on_gpu else None)
        return out


def cudnn_attention(func: Callable, q, k, v, *args, **kwargs):
    """An override that answers with cuDNN: a context around the forward is not heard, ComfyUI sets its own inside."""
    call = pack_module("nodes.host.override").AttentionCall.read(q, k, v, args, kwargs)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        out = torch.nn.functional.scaled_dot_product_attention(call.q, call.k, call.v, call.mask, scale=call.scale)
    return call.output(out)


def with_override(patcher, override: Callable):
    """A clone of a MODEL with this attention override."""
    clone = patcher.clone()
    clone.model_options["transformer_options"][OVERRIDE] = override
    return clone
