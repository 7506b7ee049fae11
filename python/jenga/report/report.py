"""What a run did: seconds, model calls, kept share per layer and evaluation, backends, and every fallback's reason.

An *evaluation* is one prediction of the sampler (Heun makes two a step); it may take several *model calls*, one for
each group of conditionings that fits in memory. What lies on a device stays there until its evaluation is over.
`jenga.report.view` makes text and a picture of `Report.summary`.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import fmean

import torch

from ..carving.attention import DENSE
from ..carving.config import JengaConfig, TokenGrid
from ..carving.operands import BlockLists
from ..runtime.anchors import ANCHOR
from ..runtime.copy_streams import Traffic
from ..runtime.listener import Listener
from ..runtime.measure import PeakMemory, Stopwatch
from .attribution import estimate_speed
from .kept_blocks import KeptBlocks
from .streamed import Streamed


@dataclass
class StageRecord:
    """One stretch of the run at one latent size."""

    scale: float
    latent_shape: tuple[int, ...]
    steps: int
    seconds: float = 0.0


@dataclass
class LayerCall:
    """One self-attention call over video tokens. kind: the backend, "dense", or "anchor" (dense and carved).

    kept_share: measured; 1 where the output is dense. seconds: None where no time was taken.
    """

    layer_index: int
    kept_share: torch.Tensor | float
    kind: str
    seconds: Stopwatch | float | None

    def read(self) -> None:
        """Turn what lay on the device into plain numbers."""
        self.kept_share = float(self.kept_share)
        self.seconds = self.seconds.seconds() if isinstance(self.seconds, Stopwatch) else self.seconds


@dataclass
class Evaluation:
    """One prediction: its stage, seconds, model calls, and the attention calls in them."""

    stage_index: int
    seconds: Stopwatch | float = 0.0
    computed: int = 0
    reused: int = 0
    calls: list[LayerCall] = field(default_factory=list)

    def read(self) -> None:
        """Turn what lay on the device into plain numbers. Of an interrupted evaluation no time is known."""
        if isinstance(self.seconds, Stopwatch):
            self.seconds = self.seconds.seconds() or 0.0
        for call in self.calls:
            call.read()

    def kept_by_layer(self) -> dict[int, float]:
        """Layer -> mean kept share of its calls."""
        layers: dict[int, list[float]] = {}
        for call in self.calls:
            layers.setdefault(call.layer_index, []).append(float(call.kept_share))
        return {layer: fmean(shares) for layer, shares in layers.items()}


class Report(Listener):
    """Filled while a run lasts, read afterwards. Threads of several devices may write at the same time.

    No device waits for it before the run is over: what lies on a GPU stays there until `close`.
    """

    def __init__(self):
        self.stages: list[StageRecord] = []
        self.evaluations: list[Evaluation] = []
        self.backends: Counter[str] = Counter()  # an anchor is a dense call here
        self.fallbacks: Counter[str] = Counter()  # dense, or a slower backend, though carving was asked for
        self.choices: Counter[str] = Counter()  # dense because the settings say so
        self.notes: list[str] = []
        self.kept_blocks: dict[int, KeptBlocks] = {}  # layer -> its last carved evaluation
        self.peak_memory: dict | None = None  # of jenga.runtime.measure.PeakMemory
        self.other_peaks: list[dict] = []  # of the devices beside it, when the run is over
        self.streams: list[Streamed] = []  # of each device that moved any, when the run is over
        self._traffic: dict[str, list[Traffic]] = {}
        self._memory: PeakMemory | None = None
        self._other_memory: dict[torch.device, PeakMemory] = {}
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, scale: float, latent_shape: tuple[int, ...], steps: int) -> Iterator[StageRecord]:
        """One stretch of the run at one latent size; an interrupted one is recorded with the time it took."""
        stage = StageRecord(scale, latent_shape, steps)
        self.stages.append(stage)
        start = time.perf_counter()
        try:
            yield stage
        finally:
            stage.seconds = time.perf_counter() - start

    @contextmanager
    def evaluation(self, device: torch.device) -> Iterator[Evaluation]:
        """One prediction on a device."""
        if self._memory is None:
            self._memory = PeakMemory(device)
        evaluation = Evaluation(max(0, len(self.stages) - 1))
        with self._lock:
            self.evaluations.append(evaluation)
        watch, start = Stopwatch(device), time.perf_counter()
        yield evaluation
        timed = device.type in ("cpu", "cuda")  # others have no events to measure with
        evaluation.seconds = watch.stop() if timed else time.perf_counter() - start
        self.peak_memory = self._memory.read()

    def other_device(self, device: torch.device) -> None:
        with self._lock:
            if device not in self._other_memory:
                self._other_memory[device] = PeakMemory(device)

    def model_call(self, reused: bool) -> None:
        with self._lock:
            if self.evaluations:
                evaluation = self.evaluations[-1]
                evaluation.reused += reused
                evaluation.computed += not reused

    def attention(
        self, layer_index: int, kept_share: torch.Tensor | float, kind: str, watch: Stopwatch | None = None
    ) -> None:
        """One self-attention call over video tokens; a dense one keeps 1.0. kind: see LayerCall."""
        with self._lock:
            self.backends[DENSE if kind == ANCHOR else kind] += 1
            if self.evaluations:
                self.evaluations[-1].calls.append(LayerCall(layer_index, kept_share, kind, watch))

    def keep_blocks(
        self, layer_index: int, lists: BlockLists, grid: TokenGrid, config: JengaConfig, num_heads: int | None = None
    ) -> None:
        """Remember what a carved call kept instead of what the layer's call before it did (bound: kept_blocks.py)."""
        kept = KeptBlocks.of(lists, len(self.evaluations) - 1, grid, config, num_heads)
        with self._lock:
            self.kept_blocks[layer_index] = kept

    def fallback(self, reason: str) -> None:
        with self._lock:
            self.fallbacks[reason] += 1

    def choice(self, reason: str) -> None:
        with self._lock:
            self.choices[reason] += 1

    def note(self, text: str) -> None:
        with self._lock:
            if text not in self.notes:
                self.notes.append(text)

    def streamed(self, device: torch.device, traffic: Traffic) -> None:
        with self._lock:
            if traffic.to_host or traffic.to_device:
                self._traffic.setdefault(str(device), []).append(traffic)

    def close(self) -> None:
        """The run is over: nothing of the report stays on a GPU."""
        streamed = [Streamed.of(device, traffics) for device, traffics in self._traffic.items()]
        self._traffic.clear()
        for one in streamed:
            self.note(one.words())
        with self._lock:
            self.streams += streamed
            peaks = [memory.read() for memory in self._other_memory.values()]
            self.other_peaks = [peak for peak in peaks if peak is not None]
            self.kept_blocks = {layer: kept.to_host() for layer, kept in self.kept_blocks.items()}
            for evaluation in self.evaluations:
                evaluation.read()

    def kept_share_map(self) -> list[list[float | None]]:
        """Rows are layers, columns evaluations; None where a layer did not run (its evaluation was reused)."""
        columns = [evaluation.kept_by_layer() for evaluation in self.evaluations]
        layers = 1 + max((layer for column in columns for layer in column), default=-1)
        return [[column.get(layer) for column in columns] for layer in range(layers)]

    def summary(self) -> dict:
        """Everything as plain numbers, lists and strings, ready for JSON."""
        for evaluation in self.evaluations:
            evaluation.read()
        calls = [call for evaluation in self.evaluations for call in evaluation.calls]
        speed = estimate_speed([stage.scale for stage in self.stages], self.evaluations)
        return {
            "seconds": sum(stage.seconds for stage in self.stages),
            "seconds_per_step": [evaluation.seconds for evaluation in self.evaluations],
            "stages": [{**asdict(stage), "latent_shape": list(stage.latent_shape)} for stage in self.stages],
            "evaluations": [_evaluation_summary(evaluation) for evaluation in self.evaluations],
            "model_calls_computed": sum(evaluation.computed for evaluation in self.evaluations),
            "model_calls_reused": self.reused,
            "kept_share": fmean(float(call.kept_share) for call in calls) if calls else None,
            "kept_share_map": self.kept_share_map(),
            "anchors": sum(call.kind == ANCHOR for call in calls),
            "speed_estimate": None if speed is None else {**asdict(speed), "total": speed.total},
            "peak_memory": self.peak_memory,
            "other_peaks": list(self.other_peaks),
            "streamed": [asdict(one) for one in self.streams],
            "backends": dict(self.backends),
            "fallbacks": dict(self.fallbacks),
            "dense_by_choice": dict(self.choices),
            "notes": list(self.notes),
        }

    @property
    def reused(self) -> int:
        """Model calls that were not computed."""
        return sum(evaluation.reused for evaluation in self.evaluations)

    def line(self) -> str:
        """One line for the node: what has run so far. Reads nothing from a GPU."""
        computed = sum(evaluation.computed for evaluation in self.evaluations)
        parts = [f"{computed} model calls" + (f", {self.reused} reused" if self.reused else "")]
        carved = sum(count for backend, count in self.backends.items() if backend != DENSE)
        total = sum(self.backends.values())
        if total:
            names = ", ".join(backend for backend in self.backends if backend != DENSE) or "nothing"
            parts.append(f"{carved}/{total} attention calls carved ({names})")
        parts += [f"dense by choice: {reason} ({count}×)" for reason, count in self.choices.items()]
        parts += [f"fallback: {reason} ({count}×)" for reason, count in self.fallbacks.items()]
        return "; ".join(parts + self.notes)


def _evaluation_summary(evaluation: Evaluation) -> dict:
    kept = evaluation.kept_by_layer()
    return {
        "stage": evaluation.stage_index,
        "seconds": evaluation.seconds,
        "computed": evaluation.computed,
        "reused": evaluation.reused,
        "kept_share": fmean(kept.values()) if kept else None,
        "anchors": sum(call.kind == ANCHOR for call in evaluation.calls),
    }
