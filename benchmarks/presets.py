"""Every preset against dense, on the demo model in ComfyUI's own classes: time, work and quality of decoded frames.

`python -m benchmarks.presets` writes docs/presets.md, row by row. Seconds are the median over prompts of the sampling
call alone, after a discarded run; quality is the mean over prompts and frames against the dense run of the same noise.
Two machines can share it, each with its own --steps and --output; `python -m benchmarks.markdown` joins their files.
"""

import argparse
import math
import platform
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import fmean, median

import torch
from tqdm import tqdm

from benchmarks import frame_quality, sol_attn, st_lpips
from benchmarks.common import Unavailable
from benchmarks.host import preset_runs
from benchmarks.host.demo_host import DTYPES, SIZES, DemoHost
from benchmarks.host.library import ROOT, pack_module
from benchmarks.host.preset_runs import Variant
from benchmarks.markdown import Document
from demo.contact_sheet import PROMPTS
from demo.machine import processor
from jenga.runtime.qualities import QUALITIES, anchors_for
from jenga.sampling.presets import PRESETS, preset, reuses_steps

ALL_STEPS = (50, 20, 6)
FEW_STEPS = 8  # few-step is for at most so many
WARM_UP_STEPS = {"cuda": 12, "cpu": 2}  # 12: the fewest at which every part takes part, so that its kernels are loaded
ANCHORED = "balanced"  # the quality whose anchors are added to a preset
THRESHOLDS = (0.05, 0.1, 0.15, 0.3)  # of adaptive reuse; the node's default is among them
SOL_SHARES = (0.1, 0.2)
NONE = "–"
EASY_CACHE = "EasyCache"
QUALITY = ("PSNR dB", "SSIM", "ST-LPIPS")
TIMED_PROMPTS = 3  # of a run that is only timed: prompts differ in their frames, hardly in their work


@dataclass(frozen=True)
class Measured:
    """Seconds: median over prompts. computed and reused: model calls of one run. psnr, ssim and lpips: one for each
    prompt, empty where nothing was decoded or its package is missing. kept: share, and cost: attention work relative to
    dense; None without carving.
    """

    seconds: float
    computed: float
    reused: float
    kept: float | None
    cost: float | None
    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    lpips: list[float] = field(default_factory=list)

    def quality(self) -> tuple[str, str, str]:
        """The cells of QUALITY."""
        mean = fmean(self.psnr)
        distance = f"{fmean(self.lpips):.4f}" if self.lpips else NONE
        return ("∞" if math.isinf(mean) else f"{mean:.2f}"), f"{fmean(self.ssim):.4f}", distance

    def times(self, seconds: float) -> tuple[str, str]:
        """Cells: seconds, and how much faster than `seconds`."""
        return f"{self.seconds:.3f}", f"{seconds / self.seconds:.2f}"

    def calls(self) -> tuple[str, str]:
        """Cells: model calls computed and reused."""
        return f"{self.computed:g}", f"{self.reused:g}"


@dataclass(frozen=True)
class Row:
    """name: what --only is matched with, "table: row, steps". write(): measures and adds to its tables."""

    name: str
    write: Callable[[], None]


class Bench:
    """One model, the document, and the dense runs of one number of steps."""

    def __init__(self, host: DemoHost, prompts: int, document: Document):
        self.host, self.prompts, self.document = host, prompts, document
        self.steps, self.dense, self._frames = 0, None, []
        self.spent = Counter()  # seconds of the benchmark itself, by what it did
        self._lpips = st_lpips.load(host.device)
        if self._lpips is None:
            document.note(st_lpips.MISSING)

    def begin(self, steps: int) -> None:
        """Dense runs of so many steps: what everything after is compared with."""
        self.steps, self._frames = steps, []
        latents, self.dense = self._run(preset_runs.dense(self.host), self.prompts)
        self._frames = [self.host.decode(latent) for latent in latents]

    def measure_time(self, name: str, variant: Variant) -> Measured:
        """Without quality, over fewer prompts."""
        _, measured = self._run(variant, min(self.prompts, TIMED_PROMPTS))
        self._note(name, variant)
        return measured

    def measure(self, name: str, variant: Variant) -> Measured:
        latents, measured = self._run(variant, self.prompts)
        self._note(name, variant)
        for latent, expected in zip(latents, self._frames, strict=True):
            frames, seconds, _ = self.host.timed(lambda latent=latent: self.host.decode(latent))
            self.spent["decoding"] += seconds
            begin = time.perf_counter()
            measured.psnr.append(frame_quality.psnr(frames, expected))
            measured.ssim.append(frame_quality.ssim(frames, expected))
            if self._lpips is not None:
                measured.lpips.append(self._lpips(frames, expected))
            self.spent["comparing"] += time.perf_counter() - begin
        return measured

    def _note(self, name: str, variant: Variant) -> None:
        """Of its last run: every fallback, and what carved attention ran as."""
        report = variant.report()
        if report is not None:
            for reason in report.fallbacks:
                self.document.note(f"{name}, {self.steps} steps: {reason}")
            carved = sorted(kind for kind in report.backends if kind != "dense")
            if carved:
                self.document.note(f"carved attention ran as {', '.join(carved)}")

    def _run(self, variant: Variant, prompts: int) -> tuple[list[torch.Tensor], Measured]:
        """So many prompts once, after a shorter run that is thrown away."""
        begin = time.perf_counter()
        variant.sample(0, min(self.steps, WARM_UP_STEPS[self.host.device.type]))
        latents, seconds, computed, kept, costs = [], [], [], [], []
        for prompt in range(prompts):
            latent, taken, calls = self.host.timed(lambda prompt=prompt: variant.sample(prompt, self.steps))
            latents.append(latent)
            seconds.append(taken)
            computed.append(calls)
            report = variant.report()
            share = None if report is None else report.summary()["kept_share"]
            if share is not None:
                kept.append(share)
                costs.append(preset_runs.attention_cost(report))
        self.spent["sampling"] += time.perf_counter() - begin
        count = fmean(computed)
        mean_kept, mean_cost = (fmean(values) if values else None for values in (kept, costs))
        return latents, Measured(median(seconds), count, self.steps - count, mean_kept, mean_cost)


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
        names = [name for name in PRESETS if reuses_steps(name) or self.bench.steps <= FEW_STEPS]
        listed = [("dense", lambda: self._dense("dense", self.bench.dense)), ("noise floor", self._floor)]
        listed += [(name, lambda name=name: self._preset(name)) for name in names]
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
        if anchors_for(QUALITIES[ANCHORED].anchors, bench.steps):
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


def introduction(host: DemoHost, arguments: argparse.Namespace) -> str:
    """Title, what ran where, and the command."""
    options = [f"--device {arguments.device}", f"--size {arguments.size}", f"--prompts {arguments.prompts}"]
    options += [f"--steps {steps}" for steps in arguments.steps]
    options += [f"--dtype {arguments.dtype}"] if arguments.dtype != "auto" else []
    options += [f"--only '{arguments.only}'"] if arguments.only else []
    machine = torch.cuda.get_device_name() if host.device.type == "cuda" else processor()
    return (
        "# Presets on the demo model\n\n"
        f"{machine}, torch {torch.__version__}, Python {platform.python_version()}, {_comfyui()}, {host.dtype}, "
        f"{host.tokens:,} tokens, {arguments.prompts} of the {len(PROMPTS)} prompts of the contact sheet, seed of a "
        f"prompt its number, euler, scheduler simple, CFG 1; {date.today().isoformat()}:\n\n"
        f"    python -m benchmarks.presets {' '.join(options)}\n\n"
        "Seconds are the median over prompts of the sampling call alone, without loading and decoding, after a "
        "discarded run. × dense is taken inside one process. PSNR, SSIM and ST-LPIPS are means over prompts and "
        "decoded frames against the dense run of the same noise; ∞ where a frame is equal to the last bit. ST-LPIPS is "
        "the shift-tolerant LPIPS of Ghildyal and Liu (ECCV 2022), AlexNet features: lower is nearer, 0 is equal."
    )


def _comfyui() -> str:
    try:
        from comfyui_version import __version__
    except ImportError:
        return "ComfyUI"
    return f"ComfyUI {__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cuda", "cpu"))
    parser.add_argument("--steps", type=int, action="append", help=f"may repeat (default: {ALL_STEPS})")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="how many of the contact sheet's prompts")
    parser.add_argument("--size", default="full", choices=SIZES)
    parser.add_argument("--dtype", default="auto", choices=["auto", *DTYPES], help="of the model (default: the faster)")
    parser.add_argument("--only", default="", help="only rows in whose name this expression is found")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "presets.md")
    arguments = parser.parse_args()
    arguments.steps = arguments.steps or list(ALL_STEPS)
    host = DemoHost(arguments.size, arguments.device, arguments.dtype)
    document = Document(arguments.output, introduction(host, arguments))
    bench = Bench(host, arguments.prompts, document)
    tables = [table(bench) for table in TABLES]
    with tqdm(unit="row") as bar:
        for steps in arguments.steps:
            bar.set_description(f"{steps} steps, dense")
            bench.begin(steps)
            rows = [row for table in tables for row in table.rows() if re.search(arguments.only, row.name)]
            bar.total = (bar.total or 0) + len(rows)
            for row in rows:
                bar.set_description(f"{steps} steps, {row.name}")
                row.write()
                bar.set_postfix({name: f"{seconds:.0f} s" for name, seconds in bench.spent.items()})
                bar.update()


if __name__ == "__main__":
    main()
