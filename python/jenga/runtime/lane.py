"""The way to another device and back, beside what both of them compute.

A copy between GPUs runs on streams of its own, so neither side's kernels wait for it unless they need what it brings:
each piece of work on the other device starts when its own tensors are there, while those of the next are under way. On
a device without CUDA's streams the same calls run in turn.

Memory: what is copied into belongs to the stream that reads it, home's current one or the other device's own, and those
streams wait for every copy before it is freed. So nothing is kept longer than a call, however far the host runs ahead.
"""

from collections.abc import Callable
from contextlib import ExitStack

import torch

WORD = torch.complex128  # torch's widest dtype, 16 bytes; it copies the bits as they are


class Lane:
    """Copies from `home` to `device` and back, and work there. Used by one thread at a time."""

    def __init__(self, home: torch.device, device: torch.device):
        self.home, self.device = home, device
        self._streams = home.type == device.type == "cuda" and home != device
        if self._streams:
            self._leave_home, self._come_home = torch.cuda.Stream(home), torch.cuda.Stream(home)
            self._arrive, self._compute, self._leave = (torch.cuda.Stream(device) for _ in range(3))

    def bring(self, tensors: tuple[torch.Tensor, ...], ready: torch.cuda.Event | None):
        """(copies on `device`, event after which they are there). ready: event at home that the copies wait for. The
        tensors must live until `settle`.
        """
        if not self._streams:
            return tuple(x.to(self.device) for x in tensors), None
        with torch.cuda.stream(self._compute):
            there = tuple(torch.empty_like(x, device=self.device) for x in tensors)
            self._arrive.wait_event(self._compute.record_event())
        with _copying(self._leave_home, self._arrive):
            self._leave_home.wait_event(ready)
            for copy, x in zip(there, tensors, strict=True):
                copy.copy_(x, non_blocking=True)
            return there, self._arrive.record_event()

    def compute(self, tensors, arrived: torch.cuda.Event | None, work: Callable[..., tuple]) -> tuple:
        """(what work(*tensors) gave on `device`, event after which it is done). Its result must live until `settle`."""
        if not self._streams:
            return work(*tensors), None
        with torch.cuda.stream(self._compute):
            self._compute.wait_event(arrived)
            return work(*tensors), self._compute.record_event()

    def send_home(self, tensors, done: torch.cuda.Event | None, places) -> torch.cuda.Event | None:
        """Copies into `places` at home, which were free when `bring` was given its event; the event after which they
        are there.
        """
        if not self._streams:
            for place, x in zip(places, tensors, strict=True):
                place.copy_(x)
            return None
        with _copying(self._leave, self._come_home):
            self._leave.wait_event(done)
            for place, x in zip(places, tensors, strict=True):
                place.copy_(x, non_blocking=True)
            return self._come_home.record_event()

    def settle(self) -> None:
        """What follows, here or there, comes after every copy of this lane so far."""
        if self._streams:
            current = torch.cuda.current_stream(self.home)
            for stream in (self._leave_home, self._come_home):
                current.wait_stream(stream)
            for stream in (self._arrive, self._leave):
                self._compute.wait_stream(stream)


def _copying(source: torch.cuda.Stream, target: torch.cuda.Stream) -> ExitStack:
    """Torch copies on the current stream of the source's device, and makes that of the target's wait."""
    stack = ExitStack()
    for stream in (source, target):
        stack.enter_context(torch.cuda.stream(stream))
    return stack


def ready_at(device: torch.device) -> torch.cuda.Event | None:
    """An event after all that was started on a GPU so far, in the current stream; None elsewhere."""
    return torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None


def wait_for(event: torch.cuda.Event | None, device: torch.device) -> None:
    """What follows in the device's current stream comes after the event."""
    if event is not None:
        torch.cuda.current_stream(device).wait_event(event)


def packed(x: torch.Tensor) -> torch.Tensor:
    """The same numbers without gaps, in the order of their strides: what a copy engine moves in one piece."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    if span == x.numel():
        return x
    dense = torch.empty_like(x, memory_format=torch.preserve_format)
    copy_rows(dense, x)
    return dense


def copy_rows(target: torch.Tensor, source: torch.Tensor) -> None:
    """target.copy_(source) on one device, both of shape [..., D], with gaps between rows.

    Torch copies what has gaps element by element, and 16 bytes take it hardly longer than two: rows that can be read so
    are.
    """
    if target.dtype == source.dtype and _holds_words(target) and _holds_words(source):
        target, source = target.view(WORD), source.view(WORD)
    target.copy_(source)


def _holds_words(x: torch.Tensor) -> bool:
    """Whether each row is whole words that start where a word may."""
    steps = x.shape[-1], x.storage_offset(), *x.stride()[:-1]
    whole = all(step * x.itemsize % WORD.itemsize == 0 for step in steps)
    return whole and x.stride(-1) == 1 and x.data_ptr() % WORD.itemsize == 0
