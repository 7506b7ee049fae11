"""Anchored carving: what carving misses changes slowly from step to step, so it is measured at times and added between.

At an *anchor* a layer computes dense and carved attention, returns the dense one, and keeps the difference (the
residual) and the block lists. On the steps after it the layer reuses the lists, selects nothing, and adds the residual
to its carved output. Anchors are staggered: layer l has one at every step with (step + l) mod distance = 0, so each
step pays its share; at the first step of a conditioning every layer has one. Steps are the computed evaluations of a
conditioning. Source: ours, in the line of DiTFastAttn's residual sharing and Chipmunk's deltas.

This file decides and keeps; `jenga.runtime.session` computes.
"""

import threading
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

import torch

from ..carving.attention import CarvedAttention
from ..carving.config import Q_BLOCK_SIZE, AnchorConfig
from ..carving.operands import BlockLists, Residual
from ..carving.residuals import AnchorState, num_bytes, pack_lists
from .call import AttentionInput
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
    measured at the first anchor.
    """

    def __init__(self, config: AnchorConfig, device: torch.device, budget: Budget | None = None, sharers: int = 1):
        self.config, self._device, self._budget, self._sharers = config, device, budget, sharers
        self._lock = threading.Lock()  # two models in threads of their own may run on one device
        self._store: ResidualStore | None = None
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
        states = [self._store.get(key) for key in keys]
        if any(state is None for state in states) or is_anchor(layer, step.step, self.config.distance):
            return LayerPlan(keys, anchor=True)
        self._prefetch(step, layer + 1)
        return LayerPlan(keys, state=_join(states))

    def keep(self, plan: LayerPlan, residual: Residual, lists: BlockLists, num_kv_blocks: int) -> None:
        """What an anchor found, for the steps after it."""
        state = AnchorState(residual, pack_lists(lists, num_kv_blocks), num_kv_blocks, lists.index.shape[3])
        for key, part in zip(plan.keys, _split(state, len(plan.keys)), strict=True):
            self._store.put(key, part)

    def drop(self) -> None:
        """Forget every state: the next step of every conditioning is its first."""
        with self._lock:
            if self._store is not None:
                self._store.clear()
            self._steps.clear()
            self._masks.clear()
            self._placed.clear()
            self._late_starts.clear()
            self._evaluations, self._evaluation = 0, None

    def leave_device(self) -> bool:
        """Forget every state and keep none on the device from now on; whether it held any there."""
        if self._store is None or not self._store.used().device:
            return False
        self.drop()
        self._budget = replace(self._store.budget, device=0)
        self._store = None
        return True

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
        if self.num_without_place:
            layers, total = f"{self.num_without_place} of {len(self._placed)}", _megabytes(budget.device + budget.host)
            text += f"; {layers} layers carve without anchors: the budget of {total} is full"
        return text

    def _reserve(self, keys, inputs: AttentionInput, carved: CarvedAttention) -> bool:
        if self._store is None:
            budget = self._budget or budget_for(self._device, self.config.memory, self._sharers)
            self._store = ResidualStore(self._device, budget)
        batch, heads, tokens, head_dim = inputs.q.shape
        num_video = inputs.layout.grid.num_tokens
        blocks = -(-num_video // Q_BLOCK_SIZE), carved.config.num_kv_blocks(num_video)
        size = num_bytes(tokens, heads, head_dim, *blocks, self.config.residual_bits)
        return self._store.reserve(keys, size * (batch // len(keys)))

    def _prefetch(self, step: AnchorStep, layer: int) -> None:
        if not is_anchor(layer, step.step, self.config.distance):
            self._store.prefetch((layer, track) for track in step.tracks)

    def _drop_tracks(self, tracks) -> None:
        for track in list(tracks):
            self._steps.pop(track, None)
            self._masks.pop(track, None)
            if self._store is not None:
                self._store.drop([(layer, track) for layer in self._placed])


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _split(state: AnchorState, parts: int) -> list[AnchorState]:
    """One state for each equal part of the batch, in memory of its own so that each can go alone."""
    if parts == 1:
        return [state]
    pieces = zip(*([x.clone() for x in tensor.chunk(parts)] for tensor in state.tensors), strict=True)
    return [state.with_tensors(piece) for piece in pieces]


def _join(states: list[AnchorState]) -> AnchorState:
    """The states of a batch as one."""
    if len(states) == 1:
        return states[0]
    joined = states[0].with_tensors(tuple(map(torch.cat, zip(*(state.tensors for state in states), strict=True))))
    return replace(joined, max_kv=max(state.max_kv for state in states))


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
