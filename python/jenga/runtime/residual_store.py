"""Where anchor states lie between steps, and how much memory they may take.

Every (layer, conditioning) has a place, given once for a size: on the device while its budget lasts, then in host
memory, from where it comes ahead of its layer (`host_tier.py`), else none (that layer carves without anchors). On the
CPU the host tier is not used: it is the same memory.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

import psutil
import torch

from ..carving.residuals import AnchorState, joined
from .copy_streams import Traffic
from .host_tier import AHEAD_BYTES, HostTier, Keys

DEVICE_SHARE = 0.25  # of the device memory that is free at the run's first anchor: activations grow after it
HOST_SHARE = 0.5  # of the host memory that is free then: HunyuanVideo 720p has 10.8 GiB of states


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
    """memory: bytes for the device, None for its share of what is free; what comes from host memory has its room within
    them. sharers: devices that share the host's memory, which is that of a CPU too.
    """
    free = free_memory(device) // (1 if device.type == "cuda" else sharers)
    on_device = int(DEVICE_SHARE * free) if memory is None else memory
    if device.type != "cuda":
        return Budget(on_device)
    on_host = int(HOST_SHARE * free_memory(torch.device("cpu")) / sharers)
    return Budget(max(0, on_device - AHEAD_BYTES), on_host)


class ResidualStore:
    """States of one run on one device by key. Whoever reserves places first gets the faster ones."""

    def __init__(self, device: torch.device, budget: Budget, traffic: Traffic | None = None):
        self.budget = budget
        self._device, self._host = _DeviceTier(budget.device), HostTier(budget.host, device, traffic or Traffic())
        self._places: dict[Hashable, _DeviceTier | HostTier] = {}

    def reserve(self, keys: Iterable[Hashable], num_bytes: int) -> bool:
        """A place of num_bytes for each key, all in one tier; False where that does not fit. Asking again is free."""
        new = [key for key in keys if key not in self._places]
        for tier in (self._device, self._host):
            if tier.reserve(new, num_bytes):
                self._places.update((key, tier) for key in new)
                return True
        return False

    def put(self, keys: Keys, state: AnchorState) -> None:
        """Keep a state, an equal part of its batch for each key, instead of what was there; nothing where the place was
        dropped.
        """
        for key, part in zip(keys, state.parts(len(keys)), strict=True):
            tier = self._places.get(key)
            if tier is self._device and len(keys) > 1:  # in memory of its own, so that each can go alone
                part = part.with_tensors(tuple(x.clone() for x in part.tensors))
            if tier is not None:
                tier.put(key, part)

    def has(self, keys: Keys) -> bool:
        """Whether every key has a state."""
        return all(key in self._places and self._places[key].has((key,)) for key in keys)

    def get(self, keys: Keys) -> AnchorState:
        """The states of keys that have some, joined and on the device, for the work that is started until `release`."""
        states = [tier.get(group) for tier, group in self._groups(keys)]
        if len(states) == 1:
            return states[0]
        tensors = zip(*(state.tensors for state in states), strict=True)
        return joined(states, tuple(map(torch.cat, tensors)))

    def streams(self, keys: Keys) -> bool:
        """Whether any of these keys has its place in host memory."""
        return any(self._places.get(key) is self._host for key in keys)

    def release(self, keys: Keys) -> None:
        """All that reads what `get` gave for these keys has been started."""
        self._host.release(keys)

    def prefetch(self, upcoming: Iterable[tuple[Hashable, Keys]]) -> None:
        """Start to bring to the device what layers will ask for: (layer, keys), the next one first."""
        self._host.prefetch(
            (layer, group)
            for layer, keys in upcoming
            if self.has(keys)
            for tier, group in self._groups(keys)
            if tier is self._host
        )

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Give the places of these keys back."""
        for key in list(keys):
            if key in self._places:
                self._places.pop(key).drop(key)

    def leave_device(self) -> bool:
        """Move what the device holds to host memory, drop what has no room there, and take no more of the device than
        states need on their way; whether that freed any.
        """
        held = self._device.leave()
        for key, (size, state) in held.items():
            del self._places[key]
            if self._host.reserve([key], size):
                self._places[key] = self._host
                if state is not None:
                    self._host.put(key, state)
        self.budget = replace(self.budget, device=0)
        return self._host.leave_device() or bool(held)

    def clear(self) -> None:
        """Give all places back, and the host memory with them."""
        self._places.clear()
        self._device.clear()
        self._host.clear()

    def used(self) -> Budget:
        """Bytes that are taken in each tier: on the device by reserved places, of the host by whole slabs."""
        return Budget(self._device.used, self._host.used)

    @property
    def unlocked(self) -> int:
        """Bytes of the host's that the system would not page-lock."""
        return self._host.unlocked

    def _groups(self, keys: Keys) -> list[tuple["_DeviceTier | HostTier", Keys]]:
        """All keys at once where they lie in host memory, which joins them on the way; else each by itself."""
        tiers = [self._places[key] for key in keys]
        if tiers and all(tier is self._host for tier in tiers):
            return [(self._host, keys)]
        return [(tier, (key,)) for tier, key in zip(tiers, keys, strict=True)]


class _DeviceTier:
    """Keeps states as they are."""

    def __init__(self, limit: int):
        self._limit = limit
        self._sizes: dict[Hashable, int] = {}
        self._states: dict[Hashable, AnchorState] = {}

    @property
    def used(self) -> int:
        return sum(self._sizes.values())

    def reserve(self, keys: list[Hashable], num_bytes: int) -> bool:
        if self.used + len(keys) * num_bytes > self._limit:
            return False
        self._sizes.update((key, num_bytes) for key in keys)
        return True

    def put(self, key: Hashable, state: AnchorState) -> None:
        self._states[key] = state

    def has(self, keys: Keys) -> bool:
        return all(key in self._states for key in keys)

    def get(self, keys: Keys) -> AnchorState:
        return self._states[keys[0]]

    def drop(self, key: Hashable) -> None:
        del self._sizes[key]
        self._states.pop(key, None)

    def leave(self) -> dict[Hashable, tuple[int, AnchorState | None]]:
        """Every key with the bytes of its place and its state; there are no more places here."""
        held = {key: (size, self._states.get(key)) for key, size in self._sizes.items()}
        self.clear()
        self._limit = 0
        return held

    def clear(self) -> None:
        self._sizes.clear()
        self._states.clear()
