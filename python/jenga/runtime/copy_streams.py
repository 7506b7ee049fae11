"""Copies between a device and host memory beside what is computed, on a stream each way: what leaves waits for the work
that makes it and never holds up what comes, and a link carries both at once.

On a device without CUDA's streams a copy is over when it has been started, and an event is None.
"""

from collections.abc import Iterable

import torch

from .lane import ready_at, wait_for
from .measure import Stopwatch

Event = torch.cuda.Event | None
Pairs = list[tuple[torch.Tensor, torch.Tensor]]  # (target, source), contiguous and of one type


class Traffic:
    """What one run moved between one device and host memory: bytes each way, and how long compute waited for them."""

    def __init__(self):
        self.to_device = self.to_host = 0
        self._waits: list[Stopwatch] = []

    def waiting(self, watch: Stopwatch) -> None:
        self._waits.append(watch)

    def waited(self) -> float | None:
        """Seconds in which the compute stream had nothing else to do; waits for it. None where there is no stream."""
        return sum(watch.seconds() or 0.0 for watch in self._waits) if self._waits else None


class CopyStreams:
    """Both ways of one device. Its memory may be freed as soon as a copy has been started: torch keeps it until that is
    over. Host memory must live until `settle`.
    """

    def __init__(self, device: torch.device, traffic: Traffic):
        self._device, self._traffic = device, traffic
        streams = device.type == "cuda"
        self._coming, self._leaving = (torch.cuda.Stream(device) if streams else None for _ in range(2))

    def now(self) -> Event:
        """After all that compute has been given so far."""
        return ready_at(self._device)

    def bring(self, pairs: Pairs, after: Iterable[Event]) -> Event:
        """From host memory to the device, after those events; the event after which all is there."""
        self._traffic.to_device += _bytes(pairs)
        return _copy(pairs, after, self._coming, [target for target, _ in pairs])

    def send(self, pairs: Pairs, after: Iterable[Event]) -> Event:
        """From the device to host memory, after those events; the event after which all is there."""
        self._traffic.to_host += _bytes(pairs)
        return _copy(pairs, after, self._leaving, [source for _, source in pairs])

    def wait(self, event: Event, memory: torch.Tensor) -> None:
        """What compute is given from now on comes after the event and reads that memory of the device."""
        if event is None:
            return
        watch = Stopwatch(self._device)
        wait_for(event, self._device)
        self._traffic.waiting(watch.stop())
        memory.record_stream(torch.cuda.current_stream(self._device))

    def settle(self) -> None:
        """The host waits until every copy is over."""
        for stream in (self._coming, self._leaving):
            if stream is not None:
                stream.synchronize()


def _bytes(pairs: Pairs) -> int:
    return sum(target.nbytes for target, _ in pairs)


def _copy(pairs: Pairs, after: Iterable[Event], stream, on_device: list[torch.Tensor]) -> Event:
    if stream is not None:
        for event in after:
            if event is not None:
                stream.wait_event(event)
    with torch.cuda.stream(stream):  # no stream, no effect
        for target, source in pairs:
            target.copy_(source, non_blocking=True)
    if stream is None:
        return None
    for x in on_device:
        x.record_stream(stream)
    return stream.record_event()
