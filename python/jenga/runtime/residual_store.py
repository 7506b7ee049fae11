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


def budget_for(device: torch.device, memory: int | None) -> Budget:
    """memory: bytes for the device, None for its share of what is free."""
    on_device = int(DEVICE_SHARE * free_memory(device)) if memory is None else memory
    on_host = int(HOST_SHARE * free_memory(torch.device("cpu"))) if device.type == "cuda" else 0
    return Budget(on_device, on_host)


class ResidualStore:
    """States of one run on one device by key. Whoever reserves places first gets the faster ones."""

    def __init__(self, device: torch.device, budget: Budget):
        self.budget = budget
        self._tiers = (_DeviceTier(budget.device), _HostTier(budget.host, device))
        self._places: dict[Hashable, tuple[_DeviceTier, int]] = {}

    def reserve(self, keys: Iterable[Hashable], num_bytes: int) -> bool:
        """A place of num_bytes for each key, all in one tier; False where that does not fit. Asking again is free."""
        new = [key for key in keys if key not in self._places]
        for tier in self._tiers:
            if tier.used + len(new) * num_bytes <= tier.limit:
                tier.used += len(new) * num_bytes
                self._places.update((key, (tier, num_bytes)) for key in new)
                return True
        return False

    def put(self, key: Hashable, state: AnchorState) -> None:
        """Keep a state in its reserved place; what was there goes."""
        self._places[key][0].put(key, state)

    def get(self, key: Hashable) -> AnchorState | None:
        """The state on the device, or None where the key has none."""
        return self._places[key][0].get(key) if key in self._places else None

    def prefetch(self, keys: Iterable[Hashable]) -> None:
        """Start to bring these states to the device; `get` follows soon."""
        for key in keys:
            if key in self._places:
                self._places[key][0].prefetch(key)

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Give the places of these keys back."""
        for key in list(keys):
            if key in self._places:
                tier, num_bytes = self._places.pop(key)
                tier.used -= num_bytes
                tier.drop(key)

    def clear(self) -> None:
        self.drop(self._places)

    def used(self) -> Budget:
        """Bytes reserved in each tier."""
        return Budget(*(tier.used for tier in self._tiers))


class _DeviceTier:
    """Keeps states as they are."""

    def __init__(self, limit: int):
        self.limit, self.used = limit, 0
        self._states: dict[Hashable, AnchorState] = {}

    def put(self, key: Hashable, state: AnchorState) -> None:
        self._states[key] = state

    def get(self, key: Hashable) -> AnchorState | None:
        return self._states.get(key)

    def prefetch(self, key: Hashable) -> None:
        """They are there already."""

    def drop(self, key: Hashable) -> None:
        self._states.pop(key, None)


class _HostTier(_DeviceTier):
    """Keeps states in host memory, pinned for a CUDA device. All copies run on one side stream, so they keep their
    order; the host never reads what it holds and so never waits.
    """

    def __init__(self, limit: int, device: torch.device):
        super().__init__(limit)
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" and limit else None
        self._ahead: dict[Hashable, AnchorState] = {}

    def put(self, key: Hashable, state: AnchorState) -> None:
        self._ahead.pop(key, None)
        if self._stream is None:
            super().put(key, state.with_tensors(tuple(x.to("cpu", copy=True) for x in state.tensors)))
            return
        kept = self._states.get(key)
        if kept is None or [x.shape for x in kept.tensors] != [x.shape for x in state.tensors]:
            pinned = tuple(torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for x in state.tensors)
        else:
            pinned = kept.tensors
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for there, here in zip(pinned, state.tensors, strict=True):
                there.copy_(here, non_blocking=True)
                here.record_stream(self._stream)
        super().put(key, state.with_tensors(pinned))

    def prefetch(self, key: Hashable) -> None:
        kept = self._states.get(key)
        if kept is None or key in self._ahead:
            return
        with torch.cuda.stream(self._stream):  # no stream, no effect
            here = tuple(x.to(self._device, non_blocking=True) for x in kept.tensors)
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
        super().drop(key)
        self._ahead.pop(key, None)
