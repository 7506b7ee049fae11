"""Anchored carving: what carving misses changes slowly from step to step, so it is measured at times and added between.

At an *anchor* a layer computes dense and carved attention, returns the dense one, and keeps the difference (the
residual) and the block lists. On the steps after it the layer reuses the lists, selects nothing, and adds the residual
to its carved output. Anchors are staggered: layer l has one at every step with (step + l) mod distance = 0, so each
step pays its share; at the first step of a size every layer has one. Steps are the computed evaluations of a
conditioning. Source: ours, in the line of DiTFastAttn's residual sharing and Chipmunk's deltas.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import torch

from ..carving.attention import DENSE, CarvedAttention, CarvedResult
from ..carving.config import Q_BLOCK_SIZE, AnchorConfig, TokenGrid
from ..carving.residuals import AnchorState, num_bytes, pack_lists
from .residual_store import Budget, ResidualStore, budget_for

ANCHOR = "anchor"  # what CarvedResult.backend says where the output is the dense one of an anchor


def is_anchor(layer_index: int, step: int, distance: int) -> bool:
    """Whether a layer computes dense attention at a step; distance 0: at step 0 alone."""
    return step == 0 or (distance > 0 and (step + layer_index) % distance == 0)


def relative_cost(steps: int, num_layers: int, distance: int, carved_cost: float) -> float:
    """Attention work relative to dense: carved_cost for every call, and 1 more for every anchor.

    carved_cost: kept share + tail columns / tokens.
    """
    anchors = sum(is_anchor(layer, step, distance) for layer in range(num_layers) for step in range(steps))
    return carved_cost + anchors / (steps * num_layers)


@dataclass(frozen=True)
class ModelCall:
    """One model call of a run. conditionings: one for each equal part of the batch, in order. step: the number of
    computed evaluations before this one, of the conditioning that has most.
    """

    conditionings: tuple[Hashable, ...]
    step: int


class AnchoredAttention:
    """Carving with anchors: state of one run, one model and one device. Close it with the run.

    budget: where states may lie; None: `budget_for` the configuration's memory, measured at the first anchor.
    """

    def __init__(self, config: AnchorConfig, device: torch.device, budget: Budget | None = None):
        self.config, self._device, self._budget = config, device, budget
        self._store: ResidualStore | None = None
        self._shape: Hashable = None
        self._evaluation: Hashable = None
        self._steps: dict[Hashable, int] = {}  # conditioning -> computed evaluations
        self._masks: dict[Hashable, torch.Tensor | None] = {}
        self._seen: set[Hashable] = set()  # conditionings of this evaluation
        self._layers: dict[int, bool] = {}  # layer -> whether it has a place

    def begin(
        self,
        conditionings: Sequence[Hashable],
        evaluation: Hashable,
        shape: Hashable,
        kv_mask: torch.Tensor | None = None,
    ) -> ModelCall:
        """Before the first attention call of a model call that is really computed.

        conditionings  one for each equal part of the batch; weights that change during a run are part of it
        evaluation     which prediction of the sampler this call belongs to: any value that changes with it
        shape          another value drops everything: grid, tokens, dtype, whatever makes residuals unfit
        kv_mask        bool [B, S] or None; one that changes drops its conditioning (one host sync if there is a mask)
        """
        if shape != self._shape:
            self.drop()
            self._shape = shape
        if evaluation != self._evaluation:
            self._drop_conditionings(self._steps.keys() - self._seen)  # they sat out a whole evaluation
            self._evaluation, self._seen = evaluation, set()
        masks = [None] * len(conditionings) if kv_mask is None else kv_mask.chunk(len(conditionings))
        for conditioning, mask in zip(conditionings, masks, strict=True):
            if not _same(self._masks.get(conditioning), mask):
                self._drop_conditionings([conditioning])
            self._masks[conditioning] = mask
            self._steps[conditioning] = self._steps.get(conditioning, -1) + 1
        self._seen.update(conditionings)
        step = max(self._steps[conditioning] for conditioning in conditionings)
        return ModelCall(tuple(conditionings), step)

    def __call__(
        self,
        call: ModelCall,
        layer_index: int,
        carved: CarvedAttention,
        alone: CarvedAttention,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        grid: TokenGrid,
        dense: Callable[[], torch.Tensor],
        **arguments,
    ) -> CarvedResult:
        """One layer of the model call that `begin` gave.

        carved and alone: carving with anchors, and in their place where the budget has no room. dense(): the exact
        output [B, H, S, D]. arguments: further ones of CarvedAttention. The result's backend is "anchor" where its
        output is the dense one.
        """
        keys = [(layer_index, conditioning) for conditioning in call.conditionings]
        self._layers[layer_index] = self._reserve(keys, q, grid, carved)
        if not self._layers[layer_index]:
            self._store.drop(keys)  # what some of them kept would be stale when its turn comes again
            return alone(q, k, v, grid, **arguments)
        states = [self._store.get(key) for key in keys]
        if any(state is None for state in states) or is_anchor(layer_index, call.step, self.config.distance):
            return self._anchor(keys, carved, q, k, v, grid, dense, arguments)
        self._prefetch(call, layer_index + 1)
        state = _join(states)
        return carved(q, k, v, grid, **arguments, lists=state.lists(), residual=state.residual)

    def drop(self) -> None:
        """Forget every state: the next step of every conditioning is its first."""
        if self._store is not None:
            self._store.clear()
        self._steps.clear()
        self._masks.clear()
        self._layers.clear()
        self._shape = None

    def close(self) -> None:
        self.drop()
        self._store = None

    @property
    def num_without_place(self) -> int:
        """Layers that carve without anchors, because the budget is full."""
        return sum(not placed for placed in self._layers.values())

    def describe(self) -> str:
        """Where the states lie and which layers have none, in one line; empty before the first anchor."""
        if self._store is None or not self._layers:
            return ""
        used, budget = self._store.used(), self._store.budget
        text = f"anchors: {self.config.residual_bits}-bit residuals, {_megabytes(used.device)} on {self._device.type}"
        if used.host:
            text += f" and {_megabytes(used.host)} in host memory: the budget on {self._device.type} is full"
        if self.num_without_place:
            layers, total = f"{self.num_without_place} of {len(self._layers)}", _megabytes(budget.device + budget.host)
            text += f"; {layers} layers carve without anchors: the budget of {total} is full"
        return text

    def _anchor(self, keys, carved: CarvedAttention, q, k, v, grid: TokenGrid, dense, arguments: dict) -> CarvedResult:
        result = carved(q, k, v, grid, **arguments)
        if result.backend == DENSE:  # nothing was carved, so there is nothing to put right
            return result
        exact = dense()
        num_kv_blocks = carved.config.num_kv_blocks(grid.num_tokens)
        state = AnchorState(
            carved.pack_residual(exact, result, self.config.residual_bits),
            pack_lists(result.lists, num_kv_blocks),
            num_kv_blocks,
            result.lists.index.shape[3],
        )
        for key, part in zip(keys, _split(state, len(keys)), strict=True):
            self._store.put(key, part)
        return replace(result, out=exact, lse=None, kept_share=torch.ones_like(result.kept_share), backend=ANCHOR)

    def _reserve(self, keys, q: torch.Tensor, grid: TokenGrid, carved: CarvedAttention) -> bool:
        if self._store is None:
            self._store = ResidualStore(self._device, self._budget or budget_for(self._device, self.config.memory))
        batch, heads, tokens, head_dim = q.shape
        blocks = -(-grid.num_tokens // Q_BLOCK_SIZE), carved.config.num_kv_blocks(grid.num_tokens)
        size = num_bytes(tokens, heads, head_dim, *blocks, self.config.residual_bits)
        return self._store.reserve(keys, size * (batch // len(keys)))

    def _prefetch(self, call: ModelCall, layer_index: int) -> None:
        if not is_anchor(layer_index, call.step, self.config.distance):
            self._store.prefetch((layer_index, conditioning) for conditioning in call.conditionings)

    def _drop_conditionings(self, conditionings) -> None:
        for conditioning in list(conditionings):
            self._steps.pop(conditioning, None)
            self._masks.pop(conditioning, None)
            if self._store is not None:
                self._store.drop([(layer, conditioning) for layer in self._layers])


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
