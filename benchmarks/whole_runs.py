"""Whole runs of a large model, row by row, with where their time goes: what `benchmarks.full_model --steps` prints.

Runs have the names of benchmarks.clip_quality, which measures the quality of the same graphs on the demo model: a
preset of the *Jenga* node, "turbo + anchors", "quality balanced" of *Jenga Attention*, "sol_attn 20% + EasyCache", …
"quality balanced, streamed" keeps what anchors found in host memory, all of it, as a card of 24 GB has to.

s: wall seconds of the sampling call, without loading and decoding, CFG 1. A dense run does the same at every step: few
of them are measured, and count for all. attention, linear, rest, patch and between s add up to s; anchors s is a part
of attention s; see Times in benchmarks/host/meter.py. computed and reused: steps. What decides by the model's output
which steps it reuses (adaptive, EasyCache) decides on random weights, as on no trained model: EasyCache reuses none, or
few, adaptive none or nearly all. With --easycache-calls EasyCache's runs are told like dense ones, from a few steps
without it and so many computed ones. With --computed a preset's run is whole, but computes so many listed steps: the
first 15 %, which adaptive always computes, the last, and others evenly between.
patch share: patch s relative to the predictions of the run. cost model s: what benchmarks.cost_model says of the same
run, from single evaluations that were measured before (--costs).
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

from benchmarks import clip_runs
from benchmarks.common import Unavailable, print_head, print_row
from benchmarks.cost_model import DENSE, StageWork, fit
from benchmarks.host import preset_runs, run_work
from benchmarks.host.meter import Times
from benchmarks.host.preset_runs import EASY_CACHE, Variant
from benchmarks.host.whole_model import WholeModel
from jenga.runtime.qualities import QUALITIES
from jenga.sampling.presets import PRESETS
from jenga.sampling.reuse_rules import MeasuredRateRule

CUDNN = "dense, cuDNN"
RIVAL = f"sol_attn 20% + {EASY_CACHE}"
USUAL = ("flash", "turbo", "quality balanced", RIVAL)
USUAL_OF_FEW = ("few-step", "quality high")
HEAD = ("run", "s", "× stock", "× cuDNN", "computed", "reused", "attention s", "anchors s", "linear s", "rest s")
HEAD += ("patch s", "patch share", "between s", "kept share", "peak GiB", "cost model s")
STREAMED, LEAST_GB = ", streamed", 0.001  # anchor_memory of the node that leaves no room on the device
NONE = "–"
Rows = dict[str, dict[str, float]]


def no_cudnn(host: WholeModel) -> str:
    """Why there is no dense run by cuDNN; empty where there is one."""
    if host.device.type != "cuda":
        return "left out, it needs a GPU"
    try:
        preset_runs.cudnn(host.first_blocks_only()).sample(0, 1)
    except RuntimeError as refusal:
        return f"does not run here, {str(refusal).splitlines()[0]}"
    return ""


def peak(times: Times) -> str:
    """The cell of peak GiB."""
    return NONE if times.peak is None else f"{times.peak / 2**30:.1f}"


def measure(
    host: WholeModel, make: Callable[[WholeModel], Variant], steps: int = 1, repeats: int = 1
) -> tuple[Times, Variant]:
    """The median run by seconds, after the same one with one block of each kind; and the last."""
    make(host.first_blocks_only()).sample(0, steps)
    variant, found = make(host), []
    for _ in range(repeats):
        variant.sample(0, steps)
        found.append(host.times)
    middle = median(times.predictions for times in found)
    return min(found, key=lambda times: abs(times.predictions - middle)), variant


def runs(host: WholeModel, steps: int) -> dict[str, Callable[[], Variant]]:
    """Every run by name; making one raises Unavailable where it cannot run here."""
    made = clip_runs.runs(host, steps)
    for name, chosen in QUALITIES.items():
        if chosen.anchors:
            streamed = partial(preset_runs.quality, host, name, anchor_memory=LEAST_GB)
            made[f"quality {name}{STREAMED}"] = streamed
    return made


def listed_steps(steps: int, computed: int) -> list[int]:
    """So many of the steps: the first 15 %, the last, others evenly between. The first of another size is computed
    besides. Raises SystemExit where that cannot be.
    """
    first = math.ceil(MeasuredRateRule.FIRST_SHARE * steps)
    if not first < computed <= steps:
        raise SystemExit(f"full_model: --computed must be {first + 1} to {steps} of {steps} steps, got {computed}")
    others = computed - first
    return [*range(first), *(first - 1 + round((steps - first) * one / others) for one in range(1, others + 1))]


def named(name: str, steps: int, host: WholeModel) -> Variant:
    """The run of that name. Raises Unavailable where it cannot run here."""
    return runs(host, steps)[name]()


class Table:
    """Rows of one model and number of steps, and what must be said of them. measured: steps of a run that is told from
    few. costs: the rows of single evaluations that benchmarks.cost_model is fitted to.
    """

    def __init__(self, host: WholeModel, steps: int, measured: int, costs: Rows | None):
        self.host, self.steps, self.measured, self.notes = host, steps, min(steps, measured), []
        self._cost = fit(costs) if costs else None
        self._dense: dict[str, float] = {}  # seconds

    def add_dense(self) -> None:
        """Stock and cuDNN."""
        print_head(*HEAD)
        if self.measured < self.steps:
            self.notes.append(f"dense runs are told from {self.measured} of {self.steps} steps")
        reason = no_cudnn(self.host)
        for name, make in ((DENSE, preset_runs.dense), (CUDNN, preset_runs.cudnn)):
            if name == CUDNN and reason:
                self.notes.append(f"{CUDNN}: {reason}")
                continue
            times = measure(self.host, make, self.measured)[0].of_steps(self.steps)
            self._dense[name] = times.seconds
            self._print(name, times, "1.000", run_work.dense_work(self.steps) if name == DENSE else None)

    def add(self, name: str, computed: int | None = None) -> None:
        """A run of that name, of a preset with so many listed steps computed; where it cannot run here, the reason."""
        make = partial(named, name, self.steps)
        if computed:
            make = partial(preset_runs.jenga_listed, preset=name, computed=listed_steps(self.steps, computed))
            self.notes.append(f"{name}: computes {computed} listed steps")
        try:
            times, variant = measure(self.host, make, self.steps)
        except Unavailable as reason:
            self.notes.append(f"{name}: {reason}")
            return
        report = variant.report()
        summary = {"kept_share": None, "fallbacks": {}, "notes": []} if report is None else report.summary()
        kept = summary["kept_share"]
        work = clip_runs.work_of(name, report, round(times.computed))
        self._print(name, times, NONE if kept is None else f"{kept:.3f}", work)
        if said := [*summary["fallbacks"], *summary["notes"]]:
            self.notes.append("; ".join([f"{name}: {said[0]}", *said[1:]]))

    def add_cached(self, name: str, calls: float) -> None:
        """A run with EasyCache that computes so many steps, from a few of the run without it."""
        base = clip_runs.DENSE if name == EASY_CACHE else name.removesuffix(f" + {EASY_CACHE}")
        try:
            times, _ = measure(self.host, partial(named, base, self.steps), self.measured)
        except Unavailable as reason:
            self.notes.append(f"{name}: {reason}")
            return
        self._print(name, replace(times.of_steps(calls), reused=self.steps - calls), NONE, None)
        self.notes.append(f"{name}: told from {self.measured} computed steps, {calls:g} of {self.steps} are computed")

    def _print(self, name: str, times: Times, kept: str, work: list[StageWork] | None) -> None:
        cells = [f"{times.seconds:.2f}"]
        for dense in (DENSE, CUDNN):
            cells.append(f"{self._dense[dense] / times.seconds:.2f}" if dense in self._dense else NONE)
        cells += [f"{count:g}" for count in (times.computed, times.reused)]
        cells += [f"{part:.3f}" for part in (times.attention, times.anchors, times.linear, times.rest, times.patch)]
        cells += [f"{times.patch / times.predictions:.2%}", f"{times.between:.3f}", kept, peak(times)]
        print_row(name, *cells, f"{self._cost.seconds(work):.2f}" if self._cost and work else NONE)


def write(host: WholeModel, steps: int, arguments: argparse.Namespace, costs: Rows | None) -> None:
    """The table of one model and number of steps. Raises SystemExit for a name that is none."""
    names = arguments.run or list(USUAL if steps > preset_runs.FEW_STEPS else USUAL_OF_FEW)
    known = runs(host, steps)
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"full_model: --run must be one of {', '.join(known)}, got {', '.join(unknown)}")
    computed = dict(arguments.computed or ())
    if unknown := [name for name in computed if name not in PRESETS]:
        raise SystemExit(f"full_model: --computed must name a preset, got {', '.join(unknown)}")
    table = Table(host, steps, arguments.dense_steps, costs)
    table.add_dense()
    for name in names:
        if name.endswith(EASY_CACHE) and arguments.easycache_calls:
            table.add_cached(name, arguments.easycache_calls)
        else:
            table.add(name, computed.get(name))
    print("", *table.notes, sep="\n")
