"""Seconds of whole runs against both kinds of quality: the runs of benchmarks.clip_quality on a large model's clock.

    python -m benchmarks.full_model --model hunyuan > steps.txt
    python -m benchmarks.full_model --model hunyuan --steps 50 > runs.txt
    python -m benchmarks.clip_quality --steps 50 --folder build/q50
    python -m benchmarks.frontier build/q50 steps.txt --runs runs.txt --model "HunyuanVideo 13B"

Quality is the demo model's, measured by clip_quality; seconds are what the same run would take on the large model:
its work by size, as its reports count it, times the parts that full_model measured (benchmarks/cost_model.py); of runs
without such a count, as sol_attn is, the seconds of --runs. A run is on the frontier if no other is as fast, as near to
dense in PSNR and as near to dense in Fréchet distance, where dense with other seeds is there to measure it; runs that
are broken on purpose are not asked. Points of the search that are positions of the dial have its names. Writes
frontier.md and frontier.png into the folder.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bootstrap import Estimate
from benchmarks.clip_runs import BROKEN
from benchmarks.cost_model import StageWork, StepCost, fit, tables
from benchmarks.markdown import Document
from benchmarks.search_space import DIAL, PREFIX

NONE = "–"
TICKS = (100, 200, 500, 1000, 2000)  # seconds
POSITIONS = {setting.name: name for name, setting in DIAL.items()}
FOUND, PSNR, FRECHET = "words found", "PSNR dB", "Fréchet to dense"
UNKNOWN = Estimate(math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class Point:
    """A run: seconds on the large model, PSNR against dense (infinite for dense itself), the Fréchet distance to dense
    with other seeds (UNKNOWN without these), the share of words found.
    """

    name: str
    seconds: float
    psnr: float
    frechet: Estimate
    found: float

    def dominates(self, other: "Point") -> bool:
        """As fast and as good in everything, and better in something."""
        mine, theirs = ((p.seconds, -p.psnr, p.frechet.value) for p in (self, other))
        return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))


def points(rows: dict[str, dict], cost: StepCost, measured: dict[str, dict[str, float]]) -> list[Point]:
    """Of the rows of quality.json those whose work is known, or else their seconds: run -> column -> number."""
    found = []
    for name, row in rows.items():
        work, quality = [StageWork(**stage) for stage in row["work"]], row["quality"]
        seconds = cost.seconds(work) if work else measured.get(name, {}).get("s")
        if seconds:
            psnr = quality[PSNR]["value"] if PSNR in quality else math.inf
            distance = Estimate(**quality[FRECHET]) if FRECHET in quality else UNKNOWN
            words = quality[FOUND]["value"]
            found.append(Point(name, seconds, psnr, distance, words))
    return found


def pareto(given: list[Point]) -> list[Point]:
    """Those that no other dominates, broken ones left out."""
    asked = [point for point in given if not point.name.startswith(BROKEN)]
    return [point for point in asked if not any(other.dominates(point) for other in asked)]


def label(name: str) -> str:
    """A run's name in the table; a position of the dial with what it is."""
    setting = name.removeprefix(PREFIX)
    return f"{POSITIONS[name]} ({setting})" if name in POSITIONS else setting


def write(folder: Path, given: list[Point], title: str) -> None:
    """frontier.md, fastest run first."""
    best = pareto(given)
    dense = max(point.seconds for point in given)
    document = Document(folder / "frontier.md", f"# {title}\n\nSeconds are a model's, quality is the demo model's.")
    table = document.table(
        "Runs by seconds",
        "Bold: on the frontier, no other run is as fast and as good by both measures. × of the slowest run.",
        *("run", "seconds", "×", PSNR, FRECHET, f"{FOUND} %"),
    )
    for point in sorted(given, key=lambda point: point.seconds):
        name = f"**{label(point.name)}**" if point in best else label(point.name)
        psnr = f"{point.psnr:.1f}" if math.isfinite(point.psnr) else NONE
        distance = NONE if point.frechet == UNKNOWN else point.frechet.text(2)
        words = f"{point.found * 100:.1f}"
        cells = f"{point.seconds:.1f}", f"{dense / point.seconds:.1f}", psnr, distance, words
        table.add(name, *cells)


def draw(path: Path, given: list[Point], title: str) -> None:
    """Seconds against PSNR and, where it is known, against the Fréchet distance with its interval: the dial joined, all
    named runs, and the points of the search without names.
    """
    from adjustText import adjust_text
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(12, 5.5), layout="constrained")
    figure.suptitle(title)
    dial = sorted((point for point in given if point.name in POSITIONS), key=lambda point: point.seconds)
    heights = {PSNR: lambda point: point.psnr, FRECHET: lambda point: point.frechet.value}
    known = {name: height for name, height in heights.items() if any(math.isfinite(height(point)) for point in given)}
    for axes, (name, height) in zip(figure.subplots(1, len(known), squeeze=False)[0], known.items(), strict=True):
        axes.plot([point.seconds for point in dial], [height(point) for point in dial], color="C0", zorder=0)
        labels = []
        for point in (point for point in given if math.isfinite(height(point))):
            at = point.seconds, height(point)
            if point not in dial and point.name.startswith(PREFIX):
                axes.plot(*at, ".", color="0.8", zorder=0)
                continue
            marker, colour = ("o", "C0") if point in dial else ("x", "C3")
            axes.plot(*at, marker, color=colour)
            text = POSITIONS.get(point.name, point.name)
            labels.append(axes.text(*at, text, fontsize=7, color=colour))
            if name == FRECHET:
                interval = point.frechet.low, point.frechet.high
                axes.plot([point.seconds] * 2, interval, color=colour, alpha=0.3, linewidth=1, zorder=0)
        axes.set(xscale="log", yscale="log" if name == FRECHET else "linear", xlabel="seconds of the run", ylabel=name)
        axes.set_xticks(TICKS, labels=TICKS)
        axes.xaxis.set_minor_locator(NullLocator())
        line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.5}
        adjust_text(labels, ax=axes, expand=(1.15, 1.6), arrowprops=line)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of benchmarks.clip_quality")
    parser.add_argument("steps", type=Path, help="output of benchmarks.full_model")
    parser.add_argument("--model", required=True, help="a title in that output")
    parser.add_argument("--runs", type=Path, help="output of benchmarks.full_model --steps")
    a = parser.parse_args()
    models = tables(a.steps.read_text())
    if a.model not in models:
        parser.error(f"--model must be one of {', '.join(models)}, got {a.model}")
    quality = json.loads((a.folder / "quality.json").read_text())
    steps = quality["setting"]["steps"]
    measured = tables(a.runs.read_text(), steps).get(a.model, {}) if a.runs else {}
    found = points(quality["rows"], fit(models[a.model]), measured)
    title = f"{a.model}, {steps} steps"
    write(a.folder, found, title)
    draw(a.folder / "frontier.png", found, title)
    print(f"written: {a.folder / 'frontier.md'}, {a.folder / 'frontier.png'}")


if __name__ == "__main__":
    main()
