"""Anchored carving: what carving misses changes slowly from step to step, so it is measured at times and added between.

At an *anchor* a layer computes dense and carved attention, returns the dense one, and keeps the difference (the
residual) and the block lists. On the steps after it the layer reuses the lists, selects nothing, and adds the residual
to its carved output. Anchors are staggered: layer l has one at every step with (step + l) mod distance = 0, so each
step pays its share; at the first step of a conditioning every layer has one. Steps are the computed evaluations of a
conditioning. Source: ours, in the line of DiTFastAttn's residual sharing and Chipmunk's deltas.

This file decides and keeps; `jenga.runtime.session` computes.
"""

import threading
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

import torch

from ..carving.attention import CarvedAttention, CarvedResult
from ..carving.config import Q_BLOCK_SIZE, AnchorConfig
from ..carving.operands import Residual
from ..carving.residuals import AnchorState, num_bytes, pack_lists
from .call import AttentionInput
from .call_order import CallOrder
from .copy_streams import Traffic
from .residual_store import Budget, ResidualStore, budget_for

ANCHOR = "anchor"  # what CarvedResult.backend says where the output is the dense one of an anchor
MAX_LATE_STARTS = 2  # evaluations after the first in which conditionings may start: prompts change, guidance sets in


def is_anchor(layer: int, step: int, distance: int) -> bool:
    """Whether a layer (its index in the run) computes dense attention at a step; distance 0: at step 0 alone."""
    return step == 0 or (distance > 0 and (step + layer) % distance == 0)


def relative_cost(steps: int, num_layers: int, distance: int, carved_cost: float) -> float:
    """Attention work relative to dense: carved_cost for every call, and 1 more for every anchor.

    carved_cost: kept share + tail columns / tokens.
    """
    anchors = sum(is_anchor(layer, step, distance) for layer in range(num_layers) for step in range(steps))
    return carved_cost + anchors / (steps * num_layers)


@dataclass(frozen=True)
class AnchorStep:
    """One model call as anchors see it. tracks: the keys of what is kept, one for each equal part of the batch.

    step: how many evaluations were computed before this one, of the track that has most. -1: this call takes no part.
    """

    tracks: tuple[Hashable, ...]
    step: int


@dataclass(frozen=True)
class LayerPlan:
    """What one layer does in one model call.

    anchor: compute dense too, and keep what carving missed. state: what the last anchor kept. With neither the layer
    carves alone.
    """

    keys: tuple[Hashable, ...]
    anchor: bool = False
    state: AnchorState | None = None


class Anchors:
    """When a layer is dense, and what it keeps: of one run, one model and one device. Close it with the run.

    budget: where states may lie; None: `budget_for` the configuration's memory and the devices that share the host's,
    measured at the first anchor. traffic: what went to host memory and came from there.
    """

    def __init__(self, config: AnchorConfig, device: torch.device, budget: Budget | None = None, sharers: int = 1):
        self.config, self._device, self._budget, self._sharers = config, device, budget, sharers
        self._lock = threading.Lock()  # two models in threads of their own may run on one device
        self.traffic = Traffic()
        self._store: ResidualStore | None = None
        self._order = CallOrder()  # of (layer, tracks) with states in host memory
        self._evaluation: Hashable = None
        self._steps: dict[Hashable, int] = {}  # track -> computed evaluations before this one
        self._masks: dict[Hashable, torch.Tensor | None] = {}
        self._seen: set[Hashable] = set()  # tracks of this evaluation
        self._evaluations = 0  # since the last drop
        self._late_starts: set[int] = set()  # those of them, the first apart, in which a track started
        self.turned_away = False  # whether the last track that wanted to start was refused
        self._placed: dict[Hashable, bool] = {}  # layer -> whether it has a place

    def begin(
        self,
        conditionings: Iterable[Hashable],
        evaluation: Hashable,
        shape: Hashable,
        kv_mask: torch.Tensor | None = None,
    ) -> AnchorStep:
        """Before the first attention call of a model call that is really computed.

        conditionings  one for each equal part of the batch; weights that change during a run are part of it
        evaluation     which prediction of the sampler this call belongs to: any value that changes with it
        shape          grid, tokens, dtype, whatever makes a residual unfit: a conditioning has a track for each
        kv_mask        bool [B, S] or None; one that changes starts its track anew (one host sync if there is a mask)
        """
        with self._lock:
            return self._begin(tuple((one, shape) for one in conditionings), evaluation, kv_mask)

    def _begin(self, tracks: tuple[Hashable, ...], evaluation: Hashable, kv_mask: torch.Tensor | None) -> AnchorStep:
        if evaluation != self._evaluation:
            self._drop_tracks(self._steps.keys() - self._seen)  # they sat out a whole evaluation
            self._evaluation, self._seen = evaluation, set()
            self._evaluations += 1
            self._order.begin()
        masks = [None] * len(tracks) if kv_mask is None else kv_mask.chunk(len(tracks))
        for track, mask in zip(tracks, masks, strict=True):
            if not _same(self._masks.get(track), mask):
                self._drop_tracks([track])
        new = [track for track in tracks if track not in self._steps]
        if new and not self._may_start():
            self._drop_tracks(tracks)
            return AnchorStep(tracks, -1)
        for track, mask in zip(tracks, masks, strict=True):
            self._masks[track] = mask
            if track not in self._seen:  # else the model call is made once more: it was out of memory
                self._steps[track] = self._steps.get(track, -1) + 1
        self._seen.update(tracks)
        return AnchorStep(tracks, max(self._steps[track] for track in tracks))

    def _may_start(self) -> bool:
        """Whether a conditioning that was not there before is likely to come again: most start together, at first."""
        late = self._late_starts | ({self._evaluations} - {1})
        self.turned_away = len(late) > MAX_LATE_STARTS
        if not self.turned_away:
            self._late_starts = late
        return not self.turned_away

    def plan(self, step: AnchorStep, layer: int, inputs: AttentionInput, carved: CarvedAttention) -> LayerPlan:
        """What the layer of that index does in the model call that `begin` gave. carved: the carving with anchors."""
        keys = tuple((layer, track) for track in step.tracks)
        if step.step < 0:
            return LayerPlan(keys)
        with self._lock:
            self._placed[layer] = self._reserve(keys, inputs, carved)
            if not self._placed[layer]:
                self._store.drop(keys)  # what some of them kept would be stale when its turn comes again
                return LayerPlan(keys)
            if self._store.streams(keys):
                self._order.ask((layer, step.tracks))
            anchor = is_anchor(layer, step.step, self.config.distance) or not self._store.has(keys)
            state = None if anchor else self._store.get(keys)
            self._store.prefetch(self._upcoming())
            return LayerPlan(keys, anchor, state)

    def release(self, plan: LayerPlan) -> None:
        """All that reads the state of a plan has been started."""
        with self._lock:
            if plan.state is not None and self._store is not None:
                self._store.release(plan.keys)

    def keep(self, plan: LayerPlan, residual: Residual, carved: CarvedResult, num_kv_blocks: int) -> None:
        """What an anchor found, for the steps after it. carved: what it carved, which residual is the rest of."""
        blocks, max_kv = pack_lists(carved.lists, num_kv_blocks), carved.lists.index.shape[3]
        state = AnchorState(residual, blocks, num_kv_blocks, max_kv, carved.tail_bias)
        with self._lock:
            if self._store is not None:
                self._store.put(plan.keys, state)

    def drop(self) -> None:
        """Forget every state: the next step of every conditioning is its first."""
        with self._lock:
            if self._store is not None:
                self._store.clear()
            self._steps.clear()
            self._masks.clear()
            self._placed.clear()
            self._late_starts.clear()
            self._order.clear()
            self._evaluations, self._evaluation = 0, None

    def leave_device(self) -> bool:
        """Keep states in host memory alone from now on, those that find no room there not at all; whether that freed
        any of the device.
        """
        with self._lock:
            return self._store is not None and self._store.leave_device()

    def close(self) -> None:
        self.drop()
        self._store = None

    @property
    def num_without_place(self) -> int:
        """Layers that carve without anchors, because the budget is full."""
        return sum(not placed for placed in self._placed.values())

    def describe(self) -> str:
        """Where the states lie and which layers have none, in one line; empty before the first anchor."""
        if self._store is None or not self._placed:
            return ""
        used, budget = self._store.used(), self._store.budget
        text = f"anchors: {self.config.residual_bits}-bit residuals, {_megabytes(used.device)} on {self._device.type}"
        if used.host:
            text += f" and {_megabytes(used.host)} in host memory: the budget on {self._device.type} is full"
        if self._store.unlocked:
            text += f"; the system page-locks no more, so {_megabytes(self._store.unlocked)} come and go slowly"
        if self.num_without_place:
            layers, total = f"{self.num_without_place} of {len(self._placed)}", _megabytes(budget.device + budget.host)
            text += f"; {layers} layers carve without anchors: the budget of {total} is full"
        return text

    def _reserve(self, keys, inputs: AttentionInput, carved: CarvedAttention) -> bool:
        if self._store is None:
            budget = self._budget or budget_for(self._device, self.config.memory, self._sharers)
            self._store = ResidualStore(self._device, budget, self.traffic)
        batch, heads, tokens, head_dim = inputs.q.shape
        num_video = inputs.layout.grid.num_tokens
        config = carved.config
        cells = -(-num_video // config.tail_block_size) if config.weighs_tail else 0
        blocks = -(-num_video // Q_BLOCK_SIZE), config.num_kv_blocks(num_video)
        size = num_bytes(tokens, heads, head_dim, *blocks, cells, self.config.residual_bits)
        return self._store.reserve(keys, size * (batch // len(keys)))

    def _upcoming(self) -> Iterator[tuple[int, tuple[Hashable, ...]]]:
        """(layer, keys) of the states that will be asked for, if the next calls are like the last ones."""
        for (layer, tracks), later in self._order.upcoming():
            if not self._steps.keys() >= set(tracks):
                continue
            step = max(self._steps[track] + (later or track not in self._seen) for track in tracks)
            if not is_anchor(layer, step, self.config.distance):
                yield layer, tuple((layer, track) for track in tracks)

    def _drop_tracks(self, tracks) -> None:
        for track in list(tracks):
            self._steps.pop(track, None)
            self._masks.pop(track, None)
            if self._store is not None:
                self._store.drop([(layer, track) for layer in self._placed])


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
