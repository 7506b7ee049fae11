"""One execution of a sampler: it counts, holds what is kept between steps, and tells its listener."""

import threading
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import torch

from ..carving.attention import CarvedAttention
from ..carving.config import AnchorConfig, JengaConfig
from ..carving.dispatch import Backends
from .anchors import Anchors
from .call import Block, Layer
from .listener import Listener

T = TypeVar("T")


class BlockNumbers:
    """Numbers of a model's transformer blocks, where the host counts each type from 0: types follow each other in the
    order in which they come.
    """

    def __init__(self):
        self._first: dict[str, int] = {}
        self._size: dict[str, int] = {}

    def number(self, block: Block) -> int:
        first = self._first.setdefault(block.type, self.count())
        self._size[block.type] = max(self._size.get(block.type, 0), block.num_blocks, block.index + 1)
        return first + block.index

    def count(self) -> int:
        """How many there are, of all types that came."""
        return sum(self._size.values())


class Run:
    """State of one execution of a sampler. Whoever starts it closes it. Several devices may work in it, each in a
    thread of its own: what they share is locked, what they keep is apart.

    compiled: the host runs the model through torch.compile. sharers: processes of this machine that run it too, and
    share the memory of the machine; who knows of them sets it before the first attention call.
    """

    def __init__(self, listener: Listener | None = None, compiled: bool = False):
        self.listener = listener or Listener()
        self.compiled = compiled
        self.sharers = 1
        self.evaluation = -1
        self.sigma: torch.Tensor | None = None  # of the last prediction; to read it waits for its device
        self.attended = False  # whether any self-attention over the video was seen
        self._lock = threading.Lock()
        self._passes: Counter[Hashable] = Counter()
        self._layers: dict[tuple, Layer] = {}
        self._blocks = BlockNumbers()
        self._found: dict[Hashable, object] = {}
        self._backends: dict[tuple, Backends] = {}
        self._carved: dict[tuple, CarvedAttention] = {}
        self._anchors: dict[tuple, Anchors] = {}

    def begin_evaluation(self, sigma: torch.Tensor | None = None) -> None:
        """Before every prediction of the sampler, at that noise level."""
        with self._lock:
            self.evaluation, self.sigma = self.evaluation + 1, sigma
            self._passes.clear()

    def number_passes(self, conditionings: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
        """Each conditioning of a model call with the number of its calls before this one in the same evaluation."""
        with self._lock:
            numbered = tuple((one, self._passes[one]) for one in conditionings)
            self._passes.update(conditionings)
            return numbered

    def layer(self, block: Block, occurrence: int) -> Layer:
        """The layer that a host's block and the n-th self-attention in it are."""
        with self._lock:
            key = (block.type, block.index, occurrence)
            if key not in self._layers:
                self._layers[key] = Layer(self._blocks.number(block), occurrence, len(self._layers))
            return self._layers[key]

    @property
    def num_blocks(self) -> int:
        """Transformer blocks of the model, as far as its calls have shown them: all of them after the first."""
        with self._lock:
            return self._blocks.count()

    def once(self, what: Hashable, find: Callable[[], T]) -> T:
        """find(), asked once in the run: all that is found out, looked at or said once goes through here.

        By more than one device at a time: then each asks, and the first answer counts for all.
        """
        if what not in self._found:
            answer = find()
            with self._lock:
                self._found.setdefault(what, answer)
        return self._found[what]

    def carved(self, config: JengaConfig, device: torch.device, home: torch.device | None = None) -> CarvedAttention:
        """One CarvedAttention per configuration and device, so that devices share nothing. Those of a device learn from
        each other which backend has failed.

        home: the device that the call came from, where `device` only has a share of its heads: calls from two homes,
        each in a thread of its own, share nothing either.
        """
        with self._lock:
            place = (device, home or device)
            key = (config, *place)
            if key not in self._carved:
                backends = self._backends.setdefault(place, Backends())
                self._carved[key] = CarvedAttention(config, backends)
            return self._carved[key]

    def anchors(
        self,
        owner: Hashable,
        config: AnchorConfig,
        device: torch.device,
        home: torch.device | None = None,
        sharers: int = 1,
    ) -> Anchors:
        """One Anchors per patched model (owner), configuration and device. home: as for `carved`. sharers: devices of
        this process that share the host's memory.
        """
        with self._lock:
            key = (owner, config, device, home or device)
            if key not in self._anchors:
                self._anchors[key] = Anchors(config, device, sharers=sharers * self.sharers)
            return self._anchors[key]

    def drop_anchors(self, device: torch.device | None = None) -> None:
        """Forget what anchors keep for calls from a device, or for all: it is out of memory, or the latent was noised
        anew and what they keep does not fit it any more.
        """
        with self._lock:
            dropped = [anchors for (*_, home), anchors in self._anchors.items() if device in (None, home)]
        for anchors in dropped:
            anchors.drop()

    def bring_home(self, home: torch.device) -> None:
        """Forget all that other devices keep of calls from `home`, which computes them alone from now on. A device that
        has failed may not even be able to give back what it holds.
        """
        with self._lock:
            self._carved = {key: one for key, one in self._carved.items() if key[-1] != home or key[-2] == home}
            here = [anchors for key, anchors in self._anchors.items() if key[-1] == key[-2] == home]
            elsewhere = [key for key in self._anchors if key[-1] == home != key[-2]]
            gone = [(self._anchors.pop(key), key[-2]) for key in elsewhere]
        for anchors in here:
            anchors.drop()
        for anchors, device in gone:
            with suppress(RuntimeError):
                self._close(anchors, device)

    def free_device(self, device: torch.device) -> bool:
        """Move what anchors keep on a device that is out of memory to host memory, forget what has no room there, and
        put no more on the device; whether it freed anything.
        """
        with self._lock:
            of_device = [anchors for (*_, on, home), anchors in self._anchors.items() if on == home == device]
        return any([anchors.leave_device() for anchors in of_device])

    def close(self) -> None:
        self._carved.clear()
        self._backends.clear()
        while self._anchors:
            (*_, device, _), anchors = self._anchors.popitem()
            self._close(anchors, device)
        self.listener.close()

    def _close(self, anchors: Anchors, device: torch.device) -> None:
        self.listener.streamed(device, anchors.traffic)
        anchors.close()


@dataclass
class StageState:
    """Where a run stands. One object for the run, changed by its owner only; the host's option copies share it.

    density: overrides the configuration's where carving has no anchors, None leaves it. text_logit_bias: for the text
    columns of joint attention.
    """

    run: Run
    scale: float = 1.0
    density: float | None = None
    text_logit_bias: float = 0.0
