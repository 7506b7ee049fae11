"""The tables of benchmarks.presets, one class each: a row is one run, or a few that belong together."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import sol_attn
from benchmarks.common import Unavailable
from benchmarks.host import preset_runs
from benchmarks.host.library import pack_module
from benchmarks.host.preset_runs import ANCHORED, EASY_CACHE, SOL_SHARES, Variant
from benchmarks.preset_bench import NONE, QUALITY, TIMED_PROMPTS, Bench, Measured
from jenga.runtime.qualities import QUALITIES, anchors_for
from jenga.sampling.presets import preset

THRESHOLDS = (0.05, 0.1, 0.15, 0.3)  # of adaptive reuse; the node's default is among them


@dataclass(frozen=True)
class Row:
    """name: what --only is matched with, "table: row, steps". write(): measures and adds to its tables."""

    name: str
    write: Callable[[], None]


class PresetTables:
    """Every preset, and what its speed is made of."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self._table = bench.document.table(
            "Presets",
            "Dense is the loaded model in the stock sampler, a preset the *Jenga* node in front of it. *+ "
            f"anchors*: *Jenga Attention* ({ANCHORED}) behind the *Jenga* node, where an anchor ran: its least "
            "number of steps is counted in every stage by itself. Kept is the mean over attention calls at every "
            "size; an anchor, and a "
            "stage with fewer tokens than `min_tokens`, counts as 100 %. Noise floor: dense with another "
            "attention backend of torch, for quality; dense again: the same run later, for time.",
            *("steps", "run", "seconds", "× dense", "kept", "calls computed", "reused", *QUALITY),
        )
        self._parts = bench.document.table(
            "What the speed is made of",
            "Measured by adding one part at a time, each factor against the run before it: the preset's kept "
            "shares with every step at full size on the user's own schedule; then its stages; then step reuse, "
            f"which makes it the preset; then anchors, which also bring the kept share of {ANCHORED}. – where a "
            f"preset or a number of steps has no such part. Runs that are not in the table above, and dense again: "
            f"over the first {TIMED_PROMPTS} prompts.",
            *("steps", "preset", "carving ×", "resolution ×", "reuse ×", "preset × dense", "anchors ×", "all × dense"),
        )

    def rows(self) -> list[Row]:
        listed = [("dense", lambda: self._dense("dense", self.bench.dense)), ("noise floor", self._floor)]
        listed += [(name, lambda name=name: self._preset(name)) for name in preset_runs.presets_for(self.bench.steps)]
        listed.append(("dense again", self._dense_again))
        return [Row(f"presets: {name}", write) for name, write in listed]

    def _dense(self, name: str, measured: Measured) -> None:
        times = measured.times(self.bench.dense.seconds)
        self._table.add(str(self.bench.steps), name, *times, NONE, *measured.calls(), *[NONE] * len(QUALITY))

    def _dense_again(self) -> None:
        name = "dense again"
        self._dense(name, self.bench.measure_time(name, preset_runs.dense(self.bench.host)))

    def _floor(self) -> None:
        self._add("noise floor", preset_runs.other_attention(self.bench.host))

    def _add(self, name: str, variant: Variant) -> Measured:
        measured = self.bench.measure(name, variant)
        self._write(name, measured)
        return measured

    def _write(self, name: str, measured: Measured) -> None:
        bench = self.bench
        kept = NONE if measured.kept is None else f"{measured.kept * 100:.1f} %"
        times = measured.times(bench.dense.seconds)
        self._table.add(str(bench.steps), name, *times, kept, *measured.calls(), *measured.quality())

    def _preset(self, name: str) -> None:
        bench, host = self.bench, self.bench.host
        whole = self._add(name, preset_runs.jenga(host, name))
        family = pack_module("nodes.host.families").preset_family(host.model)
        parts = {"carving": preset_runs.carving_alone}
        if any(rule.scale != 1 for rule in preset_runs.rules(host, name)):
            parts["resolution"] = preset_runs.without_reuse
        if len(preset(name, family, bench.steps).computed) < bench.steps:
            parts["reuse"] = preset_runs.jenga
        *before, last = parts
        taken = {part: bench.measure_time(name, parts[part](host, name)).seconds for part in before}
        taken[last] = whole.seconds  # with its last part it is the preset
        seconds = [bench.dense.seconds, *(taken.get(part) for part in ("carving", "resolution", "reuse"))]
        total = bench.dense.seconds / whole.seconds
        anchors = everything = NONE
        if preset_runs.takes_anchors(name, bench.steps):
            anchored = self._anchored(name)
            if anchored is not None:
                anchors = f"{whole.seconds / anchored.seconds:.2f}"
                everything = f"{bench.dense.seconds / anchored.seconds:.2f}"
        self._parts.add(str(bench.steps), name, *factors(seconds), f"{total:.2f}", anchors, everything)

    def _anchored(self, name: str) -> Measured | None:
        """The preset with anchors; None where none ran. The report is asked: a stage may be too short for them."""
        bench, title = self.bench, f"{name} + anchors"
        variant = preset_runs.with_anchors(bench.host, name, ANCHORED)
        variant.sample(0, bench.steps)
        if not variant.report().summary()["anchors"]:
            bench.document.note(f"{title}, {bench.steps} steps: no anchor ran, every stage is too short for them")
            return None
        measured = bench.measure(title, variant)
        self._write(title, measured)
        return measured


def factors(seconds: list[float | None]) -> list[str]:
    """Cells: each of seconds[1:] against the last one before it that is there."""
    cells, before = [], seconds[0]
    for taken in seconds[1:]:
        cells.append(NONE if taken is None else f"{before / taken:.2f}")
        before = before if taken is None else taken
    return cells


class ReuseTable:
    """Step reuse without carving and without stages."""

    def __init__(self, bench: Bench):
        self.bench, self._default = bench, pack_module("nodes.host.step_reuse").THRESHOLD
        self._table = bench.document.table(
            "Step reuse alone",
            "Every step at full size with dense attention: the *Progressive Resolution Sampler* with one "
            "stage. static: the presets' list of computed steps. adaptive: by the change of the model's input, with so "
            f"large a threshold; {self._default:g} is the default. EasyCache: ComfyUI's own node with its defaults.",
            *("steps", "run", "seconds", "× dense", "calls computed", "reused", *QUALITY),
        )

    def rows(self) -> list[Row]:
        host = self.bench.host
        made = {"static": lambda: preset_runs.reuse_alone(host, "static", self._default)}
        for value in sorted({*THRESHOLDS, self._default}):
            made[f"adaptive {value:g}"] = lambda value=value: preset_runs.reuse_alone(host, "adaptive", value)
        made[EASY_CACHE] = lambda: preset_runs.easy_cache(host)
        return [
            Row(f"reuse: {name}", lambda name=name, make=make: self._add(name, make)) for name, make in made.items()
        ]

    def _add(self, name: str, make: Callable[[], Variant]) -> None:
        bench, steps = self.bench, str(self.bench.steps)
        try:
            variant = make()
        except Unavailable as reason:
            self._table.add(steps, f"{name}: {reason}", *[NONE] * (4 + len(QUALITY)))
            return
        measured = bench.measure(name, variant)
        if name == EASY_CACHE and bench.host.dtype == "float32":
            bench.document.note(
                "EasyCache in float32: its skipped calls change the sampler's own latent in place, which spoils the "
                "clip; in bfloat16 they work on a copy. Its quality here does not stand for it"
            )
        self._table.add(steps, name, *measured.times(bench.dense.seconds), *measured.calls(), *measured.quality())


class SolTable:
    """comfy-kitchen's sol_attn in the place of dense attention."""

    def __init__(self, bench: Bench):
        self.bench = bench
        form = "its kernels" if bench.host.device.type == "cuda" else "its eager form"
        self._table = bench.document.table(
            "sol_attn in the place of dense attention",
            f"comfy-kitchen's `sol_attn` ({form}) for every self-attention call, in the stock sampler. Its top-k is "
            "named in the row; it computes the blocks beside the diagonal besides, and cost counts them and its pooled "
            "columns, as it does in the quality dial.",
            *("steps", "run", "computes", "cost", "seconds", "× dense", *QUALITY),
        )

    def rows(self) -> list[Row]:
        return [Row(f"sol_attn: {share:.0%}", lambda share=share: self._add(share)) for share in SOL_SHARES]

    def _add(self, share: float) -> None:
        bench, steps, name = self.bench, str(self.bench.steps), f"sol_attn {share * 100:g} %"
        work = sol_attn.Work()
        try:
            variant = preset_runs.sol(bench.host, share, work)
        except Unavailable as reason:
            self._table.add(steps, f"{name}: {reason}", *[NONE] * (4 + len(QUALITY)))
            return
        measured = bench.measure(name, variant)
        computed = work.share(topk_ratio=share)
        cost = f"{computed * 100:.1f} %", f"{sol_attn.cost(computed):.3f}"
        self._table.add(steps, name, *cost, *measured.times(bench.dense.seconds), *measured.quality())


class NoiseTable:
    """Turbo with either noise of its stages."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self._table = bench.document.table(
            "Noise of the stages",
            "Turbo by *Jenga Attention* and the *Progressive Resolution Sampler*, its option `stage_noise`. dct: all "
            "stages share the low frequencies of one noise. The last columns: over the prompts.",
            *("steps", "stage noise", *QUALITY, "lowest SSIM", "highest SSIM"),
        )

    def rows(self) -> list[Row]:
        return [Row(f"noise: {kind}", lambda kind=kind: self._add(kind)) for kind in ("dct", "independent")]

    def _add(self, kind: str) -> None:
        measured = self.bench.measure(f"turbo, {kind} noise", preset_runs.stage_noise(self.bench.host, "turbo", kind))
        spread = (f"{bound(measured.ssim):.4f}" for bound in (min, max))
        self._table.add(str(self.bench.steps), kind, *measured.quality(), *spread)


class QualityTable:
    """The quality dial of Jenga Attention."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self._table = bench.document.table(
            "The quality dial",
            "*Jenga Attention* alone in the stock sampler. Cost is attention work relative to dense: kept "
            "share and tail columns of every carved call, and a dense call more for every anchor.",
            *("steps", "quality", "anchors", "cost", "seconds", "× dense", *QUALITY),
        )

    def rows(self) -> list[Row]:
        return [Row(f"quality: {name}", lambda name=name: self._add(name)) for name in QUALITIES]

    def _add(self, name: str) -> None:
        bench = self.bench
        anchors = anchors_for(QUALITIES[name].anchors, bench.steps)
        measured = bench.measure(name, preset_runs.quality(bench.host, name))
        used = NONE
        if anchors is not None:
            used = f"every {anchors.distance}th step" if anchors.distance else "first step"
        cost = NONE if measured.cost is None else f"{measured.cost:.3f}"
        times = measured.times(bench.dense.seconds)
        self._table.add(str(bench.steps), name, used, cost, *times, *measured.quality())


TABLES = (PresetTables, ReuseTable, SolTable, NoiseTable, QualityTable)
