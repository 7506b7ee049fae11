"""States in host memory, page-locked for a CUDA device, and their way to the device and back beside what is computed.

A state that an anchor made leaves for its place on one stream. One that is needed comes on another, into a buffer of a
ring, while the layers before it are computed; its layer waits for it alone. Copies and compute wait for each other by
events, the host for none of them.
"""

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import torch

from ..carving.residuals import AnchorState, joined
from .copy_streams import CopyStreams, Event, Traffic
from .host_arena import HostArena
from .ring import Buffer, Ring

AHEAD_BYTES = 512 << 20  # of the device for states that come ahead of their layers, where they are small
LAYERS_AHEAD = 2  # that come ahead, however large their states are
ALIGNMENT = 256  # bytes: kernels read states in vectors, and copies of whole lines are the fast ones
Keys = tuple[Hashable, ...]
Part = tuple[tuple[int, ...], torch.dtype]  # of a tensor: its shape and type


@dataclass
class _Kept:
    """place: uint8 in host memory. state: its tensors are views of it. written, read: the events after which the state
    is there, and after which it may be written again.
    """

    place: torch.Tensor
    read: Event
    written: Event = None
    state: AnchorState | None = None


@dataclass
class _Brought:
    """The states of some keys as one, on the device after `arrived`."""

    buffer: Buffer
    state: AnchorState
    arrived: Event


class HostTier:
    """States of one device by key. A layer asks for those of all its keys at once and gets them joined, in the order in
    which it names them.
    """

    def __init__(self, limit: int, device: torch.device, traffic: Traffic):
        self._arena = HostArena.for_device(device, limit)
        self._copies = CopyStreams(device, traffic)
        self._ring = Ring(device, self._copies)
        self._ahead_bytes = AHEAD_BYTES
        self._last_arrival: Event = None
        self._kept: dict[Hashable, _Kept] = {}
        self._ahead: dict[Keys, _Brought] = {}
        self._in_use: dict[Keys, _Brought] = {}

    @property
    def used(self) -> int:
        return self._arena.used

    @property
    def unlocked(self) -> int:
        """Bytes that the system would not page-lock: their copies make the host wait."""
        return self._arena.unlocked

    def reserve(self, keys: list[Hashable], num_bytes: int) -> bool:
        places = self._arena.take(len(keys), num_bytes)
        if places is None:
            return False
        for key, place in zip(keys, places, strict=True):  # whoever had the place before may still be read from it
            self._kept[key] = _Kept(place, self._last_arrival)
        return True

    def put(self, key: Hashable, state: AnchorState) -> None:
        """Instead of what the key had; compute does not wait."""
        self._forget(key)
        kept = self._kept[key]
        there = _cut(kept.place, [(x.shape, x.dtype) for x in state.tensors])
        pairs = list(zip(there, state.tensors, strict=True))
        kept.written = self._copies.send(pairs, (self._copies.now(), kept.read))
        kept.state = state.with_tensors(there)

    def has(self, keys: Keys) -> bool:
        return all(self._kept[key].state is not None for key in keys)

    def get(self, keys: Keys) -> AnchorState:
        """The states of keys that have some, for what compute is given from now on until `release`."""
        brought = self._ahead.pop(keys, None) or self._bring_now(keys)
        self._in_use[keys] = brought
        self._copies.wait(brought.arrived, brought.buffer.memory)
        return brought.state

    def release(self, keys: Keys) -> None:
        """All that reads what `get` gave of these keys has been given to compute."""
        for group in [group for group in self._in_use if not set(keys).isdisjoint(group)]:
            self._ring.give_back(self._in_use.pop(group).buffer, self._copies.now())

    def prefetch(self, upcoming: Iterable[tuple[Hashable, Keys]]) -> None:
        """Bring what layers will ask for: (layer, keys that have states), the next one first, as far ahead as there is
        room. What was brought and is not among it goes.
        """
        wanted = self._within_room(upcoming)
        for keys in self._ahead.keys() - wanted:
            self._put_away(keys)
        for keys in wanted:
            if keys in self._ahead or keys in self._in_use:
                continue
            try:
                self._ahead[keys] = self._bring(keys)
            except torch.OutOfMemoryError:  # nobody needs it yet
                return

    def drop(self, key: Hashable) -> None:
        self._forget(key)
        self._arena.give_back(self._kept.pop(key).place)

    def leave_device(self) -> bool:
        """Come with as little device memory as can be from now on; whether that freed any. The host waits for what is
        on its way out, whose memory is free then.
        """
        for keys in list(self._ahead):
            self._put_away(keys)
        self._ahead_bytes = 0
        self._copies.settle()
        return self._ring.clear()

    def clear(self) -> None:
        for kept in (self._kept, self._ahead, self._in_use):
            kept.clear()
        self._ring.clear()
        self._copies.settle()
        self._arena.close()

    def _within_room(self, upcoming: Iterable[tuple[Hashable, Keys]]) -> dict[Keys, None]:
        wanted, layers, room = {}, set(), self._ahead_bytes
        for layer, keys in upcoming:
            layers.add(layer)
            room -= sum(self._kept[key].place.numel() for key in keys)
            if room < 0 and len(layers) > LAYERS_AHEAD:
                break
            wanted[keys] = None
        return wanted

    def _bring_now(self, keys: Keys) -> _Brought:
        try:
            return self._bring(keys)
        except torch.OutOfMemoryError:
            if not self._ahead:
                raise
        for others in list(self._ahead):  # whose buffers serve as well
            self._put_away(others)
        return self._bring(keys)

    def _bring(self, keys: Keys) -> _Brought:
        kept = [self._kept[key] for key in keys]
        columns = list(zip(*(one.state.tensors for one in kept), strict=True))  # of each tensor, one for each key
        parts = [((sum(map(len, column)), *column[0].shape[1:]), column[0].dtype) for column in columns]
        buffer = self._ring.take(_span(parts, ALIGNMENT))
        whole = _cut(buffer.memory, parts, ALIGNMENT)
        pairs = []
        for target, column in zip(whole, columns, strict=True):
            pairs += zip(target.split([len(x) for x in column]), column, strict=True)
        arrived = self._copies.bring(pairs, (buffer.free, *(one.written for one in kept)))
        for one in kept:
            one.read = self._last_arrival = arrived
        return _Brought(buffer, joined([one.state for one in kept], whole), arrived)

    def _put_away(self, keys: Keys) -> None:
        brought = self._ahead.pop(keys)
        self._ring.give_back(brought.buffer, brought.arrived)

    def _forget(self, key: Hashable) -> None:
        """What was brought ahead of a key is not what it has any more."""
        for keys in [keys for keys in self._ahead if key in keys]:
            self._put_away(keys)


def _cut(memory: torch.Tensor, parts: list[Part], alignment: int = 1) -> tuple[torch.Tensor, ...]:
    """Views of uint8 [N] for those tensors."""
    offsets = _offsets(parts, alignment)[0]
    sizes = [_bytes(part) for part in parts]
    return tuple(
        memory[offset : offset + size].view(dtype).view(shape)
        for offset, size, (shape, dtype) in zip(offsets, sizes, parts, strict=True)
    )


def _span(parts: list[Part], alignment: int) -> int:
    return _offsets(parts, alignment)[1]


def _offsets(parts: list[Part], alignment: int) -> tuple[list[int], int]:
    """Where each begins, the widest numbers first so that each is aligned, and where all end."""
    offsets, end = [0] * len(parts), 0
    for index in sorted(range(len(parts)), key=lambda index: -parts[index][1].itemsize):
        offsets[index] = -(-end // alignment) * alignment
        end = offsets[index] + _bytes(parts[index])
    return offsets, end


def _bytes(part: Part) -> int:
    shape, dtype = part
    return math.prod(shape) * dtype.itemsize
