"""Host memory of one run, page-locked for a CUDA device: slabs, cut into places, all given back when the run ends.

Torch's own pinned memory is rounded to a power of two for every tensor and stays locked for the life of the process.
"""

import weakref
from collections.abc import Callable

import torch

SLAB_BYTES = 256 << 20  # at least; a slab is a whole number of places
ALIGNMENT = 4  # bytes: of a float


class HostArena:
    """Places of host memory up to `limit` bytes.

    used: bytes of all slabs, page-locked or not: what the process really holds. lock(memory) -> whether it could be
    page-locked; unlock(memory) before it is freed. None: memory as it is. A system that refuses to lock is not asked
    again: what comes after is plain memory. unlocked: bytes of that.
    """

    def __init__(
        self,
        limit: int,
        lock: Callable[[torch.Tensor], bool] | None = None,
        unlock: Callable[[torch.Tensor], None] | None = None,
    ):
        self.limit, self.used, self.unlocked = limit, 0, 0
        self._lock, self._unlock = lock, unlock
        self._slabs: list[weakref.finalize] = []
        self._free: dict[int, list[torch.Tensor]] = {}  # by size

    @classmethod
    def for_device(cls, device: torch.device, limit: int) -> "HostArena":
        if device.type != "cuda":
            return cls(limit)
        return cls(limit, page_lock, lambda memory: _unlock(memory, device))

    def take(self, count: int, num_bytes: int) -> list[torch.Tensor] | None:
        """`count` places, uint8 [num_bytes rounded up]; None where that is beyond the limit."""
        size = -(-num_bytes // ALIGNMENT) * ALIGNMENT
        free = self._free.setdefault(size, [])
        if len(free) < count and not self._grow(count - len(free), size):
            return None
        return [free.pop() for _ in range(count)]

    def give_back(self, place: torch.Tensor) -> None:
        """For the next one that asks for its size."""
        self._free[place.numel()].append(place)

    def close(self) -> None:
        """Free every slab. No copy from or to a place may be under way, and no place be used again."""
        self._free.clear()
        while self._slabs:
            self._slabs.pop()()
        self.used = self.unlocked = 0

    def _grow(self, count: int, size: int) -> bool:
        """One more slab, of at least `count` places."""
        room = (self.limit - self.used) // size
        number = min(room, max(count, SLAB_BYTES // size))
        if number < count:
            return False
        slab = torch.empty(number * size, dtype=torch.uint8)
        self.used += slab.numel()
        self._slabs.append(weakref.finalize(self, self._release_of(slab), slab))
        self._free[size] += slab.split(size)
        return True

    def _release_of(self, slab: torch.Tensor) -> Callable[[torch.Tensor], None]:
        """Locks a slab if it can be; what must be done with it before it is freed, which is also done where an
        interrupted run is dropped without close.
        """
        if self._lock is None:
            return _nothing
        if self.unlocked or not self._lock(slab):
            self.unlocked += slab.numel()
            return _nothing
        return self._unlock


def page_lock(memory: torch.Tensor) -> bool:
    """Page-lock memory for every CUDA device; False where the system refuses."""
    if torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.numel(), 1) == 0:
        return True
    try:  # else the next launch would report the refusal
        torch.zeros(1, device="cuda")
        torch.cuda.synchronize()
    except RuntimeError:
        pass
    return False


def _unlock(memory: torch.Tensor, device: torch.device) -> None:
    torch.cuda.synchronize(device)
    torch.cuda.cudart().cudaHostUnregister(memory.data_ptr())


def _nothing(memory: torch.Tensor) -> None:
    pass
