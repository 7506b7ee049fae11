"""Buffers on a device that what comes from host memory lies in, one state after another: none is allocated where one is
free, and one that is free is written only after the work that read it.
"""

from collections import deque
from dataclasses import dataclass

import torch

from .copy_streams import CopyStreams, Event


@dataclass
class Buffer:
    """memory: uint8 on the device. free: the event after which it may be written."""

    memory: torch.Tensor
    free: Event


class Ring:
    """Buffers of one device. It has as many as were ever out at once; who takes them bounds that."""

    def __init__(self, device: torch.device, copies: CopyStreams):
        self._device, self._copies = device, copies
        self._free: deque[Buffer] = deque()

    def take(self, num_bytes: int) -> Buffer:
        """The one that has been free for longest, else a new one. Raises torch.OutOfMemoryError."""
        while self._free:
            buffer = self._free.popleft()
            if buffer.memory.numel() >= num_bytes:
                return buffer  # one that is too small goes: sizes change with the resolution
        memory = torch.empty(num_bytes, dtype=torch.uint8, device=self._device)
        return Buffer(memory, self._copies.now())  # torch may give memory that work under way still reads

    def give_back(self, buffer: Buffer, free: Event) -> None:
        """For the next one, after that event."""
        buffer.free = free
        self._free.append(buffer)

    def clear(self) -> bool:
        """Free the buffers that nobody has; whether there was one."""
        there = bool(self._free)
        self._free.clear()
        return there
