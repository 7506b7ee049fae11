"""Where anchor states lie between steps, and how much memory they may take.

Every (layer, conditioning) has a place, given once for a size: on the device while its budget lasts, then in pinned
host memory with the next layer's state copied ahead on a side stream, else none (that layer carves without anchors).
On the CPU the host tier is not used: it is the same memory.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import psutil
import torch

from ..carving.residuals import AnchorState
from .host_arena import HostArena

DEVICE_SHARE = 0.25  # of the device memory that is free at the run's first anchor: activations grow after it
HOST_SHARE = 0.25  # of the host memory that is free then


@dataclass(frozen=True)
class Budget:
    """Bytes that states may take on the device, and in host memory beyond that."""

    device: int
    host: int = 0


def free_memory(device: torch.device) -> int:
    """Bytes free on a CUDA device, what torch has cached included; else of host memory."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return psutil.virtual_memory().available


def budget_for(device: torch.device, memory: int | None, sharers: int = 1) -> Budget:
    """memory: bytes for the device, None for its share of what is free. sharers: devices that share the host's part."""
    on_device = int(DEVICE_SHARE * free_memory(device)) if memory is None else memory
    on_host = int(HOST_SHARE * free_memory(torch.device("cpu")) / sharers) if device.type == "cuda" else 0
    return Budget(on_device, on_host)


class ResidualStore:
    """States of one run on one device by key. Whoever reserves places first gets the faster ones."""

    def __init__(self, device: torch.device, budget: Budget):
        self.budget = budget
        self._tiers = (_DeviceTier(budget.device), _HostTier(budget.host, device))
        self._places: dict[Hashable, _DeviceTier] = {}

    def reserve(self, keys: Iterable[Hashable], num_bytes: int) -> bool:
        """A place of num_bytes for each key, all in one tier; False where that does not fit. Asking again is free."""
        new = [key for key in keys if key not in self._places]
        for tier in self._tiers:
            if tier.reserve(new, num_bytes):
                self._places.update((key, tier) for key in new)
                return True
        return False

    def put(self, key: Hashable, state: AnchorState) -> None:
        """Keep a state in its reserved place instead of what was there; nothing where the place was dropped."""
        if key in self._places:
            self._places[key].put(key, state)

    def get(self, key: Hashable) -> AnchorState | None:
        """The state on the device, or None where the key has none."""
        return self._places[key].get(key) if key in self._places else None

    def prefetch(self, keys: Iterable[Hashable]) -> None:
        """Start to bring these states to the device; `get` follows soon."""
        for key in keys:
            if key in self._places:
                self._places[key].prefetch(key)

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Give the places of these keys back."""
        for key in list(keys):
            if key in self._places:
                self._places.pop(key).drop(key)

    def clear(self) -> None:
        """Give all places back, and the host memory with them."""
        self._places.clear()
        for tier in self._tiers:
            tier.clear()

    def used(self) -> Budget:
        """Bytes that are taken in each tier: on the device by reserved places, of the host by whole slabs."""
        return Budget(*(tier.used for tier in self._tiers))


class _DeviceTier:
    """Keeps states as they are."""

    def __init__(self, limit: int):
        self.limit = limit
        self._sizes: dict[Hashable, int] = {}
        self._states: dict[Hashable, AnchorState] = {}

    @property
    def used(self) -> int:
        return sum(self._sizes.values())

    def reserve(self, keys: list[Hashable], num_bytes: int) -> bool:
        if self.used + len(keys) * num_bytes > self.limit:
            return False
        self._sizes.update((key, num_bytes) for key in keys)
        return True

    def put(self, key: Hashable, state: AnchorState) -> None:
        self._states[key] = state

    def get(self, key: Hashable) -> AnchorState | None:
        return self._states.get(key)

    def prefetch(self, key: Hashable) -> None:
        """They are there already."""

    def drop(self, key: Hashable) -> None:
        del self._sizes[key]
        self._states.pop(key, None)

    def clear(self) -> None:
        self._sizes.clear()
        self._states.clear()


class _HostTier:
    """Keeps states in host memory, page-locked for a CUDA device. All copies run on one side stream, so they keep their
    order; the host never reads what it holds and so never waits.
    """

    def __init__(self, limit: int, device: torch.device):
        self._arena = HostArena.for_device(device, limit)
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" and limit else None
        self._places: dict[Hashable, torch.Tensor] = {}
        self._states: dict[Hashable, AnchorState] = {}
        self._ahead: dict[Hashable, AnchorState] = {}

    @property
    def used(self) -> int:
        return self._arena.used

    def reserve(self, keys: list[Hashable], num_bytes: int) -> bool:
        places = self._arena.take(len(keys), num_bytes)
        if places is None:
            return False
        self._places.update(zip(keys, places, strict=True))
        return True

    def put(self, key: Hashable, state: AnchorState) -> None:
        self._ahead.pop(key, None)
        there = _cut(self._places[key], state.tensors)
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):  # no stream, no effect
            for kept, here in zip(there, state.tensors, strict=True):
                kept.copy_(here, non_blocking=True)
                if self._stream is not None:
                    here.record_stream(self._stream)
        self._states[key] = state.with_tensors(there)

    def prefetch(self, key: Hashable) -> None:
        kept = self._states.get(key)
        if kept is None or key in self._ahead:
            return
        with torch.cuda.stream(self._stream):  # no stream, no effect
            here = tuple(x.to(self._device, non_blocking=True, copy=True) for x in kept.tensors)
        self._ahead[key] = kept.with_tensors(here)

    def get(self, key: Hashable) -> AnchorState | None:
        self.prefetch(key)
        state = self._ahead.pop(key, None)
        if state is not None and self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for x in state.tensors:
                x.record_stream(current)
        return state

    def drop(self, key: Hashable) -> None:
        self._states.pop(key, None)
        self._ahead.pop(key, None)
        self._arena.give_back(self._places.pop(key))

    def clear(self) -> None:
        for kept in (self._states, self._ahead, self._places):
            kept.clear()
        if self._stream is not None:
            self._stream.synchronize()
        self._arena.close()


def _cut(place: torch.Tensor, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Views of uint8 [N] for those tensors, the widest numbers first so that each is aligned."""
    views: dict[int, torch.Tensor] = {}
    offset = 0
    for index in sorted(range(len(tensors)), key=lambda index: -tensors[index].element_size()):
        x = tensors[index]
        size = x.numel() * x.element_size()
        views[index] = place[offset : offset + size].view(x.dtype).view(x.shape)
        offset += size
    return tuple(views[index] for index in range(len(tensors)))
