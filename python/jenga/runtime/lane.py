"""The way to another device and back, beside what both of them compute.

A copy between GPUs runs on streams of its own, so neither side's kernels wait for it unless they need what it brings:
each piece of work on the other device starts when its own tensors are there, while those of the next are under way. On
a device without CUDA's streams the same calls run in turn.
"""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext

import torch


class Lane:
    """Copies from `home` to `device` and back, and work there. Used by one thread at a time."""

    def __init__(self, home: torch.device, device: torch.device):
        self.home, self.device = home, device
        self._streams = home.type == device.type == "cuda" and home != device
        if self._streams:
            self._leave_home, self._come_home = torch.cuda.Stream(home), torch.cuda.Stream(home)
            self._arrive, self._compute, self._leave = (torch.cuda.Stream(device) for _ in range(3))

    def bring(self, tensors: tuple[torch.Tensor, ...], ready: torch.cuda.Event | None):
        """(copies on `device`, event after which they are there). ready: event at home that the copies wait for. What
        is copied must stay alive until `collect` has been called.
        """
        with self._between(self._leave_home, self._arrive) if self._streams else nullcontext():
            if self._streams:
                self._leave_home.wait_event(ready)
            there = tuple(x.to(self.device, non_blocking=True) for x in tensors)
            if not self._streams:
                return there, None
            _keep_until(self._compute, there)
            return there, self._arrive.record_event()

    def compute(self, tensors, arrived: torch.cuda.Event | None, work: Callable, back: Callable):
        """(work(*tensors), copies at home of the tensors back(result), event after which they are there)."""
        if not self._streams:
            result = work(*tensors)
            return result, tuple(x.to(self.home) for x in back(result)), None
        with torch.cuda.stream(self._compute):
            self._compute.wait_event(arrived)
            result = work(*tensors)
            done = self._compute.record_event()
        with self._between(self._leave, self._come_home):
            self._leave.wait_event(done)
            found = back(result)
            there = tuple(x.to(self.home, non_blocking=True) for x in found)
            _keep_until(self._leave, found)
            return result, there, self._come_home.record_event()

    def collect(self, tensors: tuple[torch.Tensor, ...], there: torch.cuda.Event | None) -> None:
        """What follows at home may use these tensors, which `compute` brought."""
        if self._streams:
            current = torch.cuda.current_stream(self.home)
            current.wait_event(there)
            _keep_until(current, tensors)

    @staticmethod
    def _between(source: torch.cuda.Stream, target: torch.cuda.Stream) -> ExitStack:
        """Torch copies on the current stream of the source's device, and makes that of the target's wait."""
        stack = ExitStack()
        for stream in (source, target):
            stack.enter_context(torch.cuda.stream(stream))
        return stack


def ready_at(device: torch.device) -> torch.cuda.Event | None:
    """An event after all that was started on a GPU so far, in the current stream; None elsewhere."""
    return torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None


def packed(x: torch.Tensor) -> torch.Tensor:
    """The same numbers without gaps, in the order of their strides: what a copy engine moves in one piece."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x if span == x.numel() else torch.empty_like(x, memory_format=torch.preserve_format).copy_(x)


def _keep_until(stream: torch.cuda.Stream, tensors) -> None:
    """Their memory is not used again before what `stream` does with them now is over."""
    for x in tensors:
        x.record_stream(stream)
