"""Seconds of whole runs against both kinds of quality: the runs of benchmarks.clip_quality on a large model's clock.

    python -m benchmarks.full_model --model hunyuan > steps.txt
    python -m benchmarks.clip_quality --steps 50 --folder build/q50
    python -m benchmarks.frontier build/q50 steps.txt --model "HunyuanVideo 13B"

Quality is the demo model's, measured by clip_quality; seconds are what the same run would take on the large model:
its work by size, as its reports count it, times the parts that full_model measured (benchmarks/cost_model.py). A run
is on the frontier if no other is as fast, as near to dense in PSNR and as near to dense in Fréchet distance. Writes
frontier.md and frontier.png into the folder.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bootstrap import Estimate
from benchmarks.cost_model import DENSE, StageWork, StepCost, fit, tables
from benchmarks.markdown import Document

NONE = "–"
FOUND, PSNR, FRECHET = "words found", "PSNR dB", "Fréchet to dense"


@dataclass(frozen=True)
class Point:
    """A run: seconds on the large model, PSNR against dense (infinite for dense itself), the Fréchet distance to dense
    with other seeds, the share of words found.
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


def points(rows: dict[str, dict], cost: StepCost) -> list[Point]:
    """Of the rows of quality.json those whose work is known."""
    found = []
    for name, row in rows.items():
        work, quality = [StageWork(**stage) for stage in row["work"]], row["quality"]
        if work:
            psnr = quality[PSNR]["value"] if PSNR in quality else math.inf
            distance, words = Estimate(**quality[FRECHET]), quality[FOUND]["value"]
            found.append(Point(name, cost.seconds(work), psnr, distance, words))
    return found


def pareto(given: list[Point]) -> list[Point]:
    """Those that no other dominates."""
    return [point for point in given if not any(other.dominates(point) for other in given)]


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
        name = f"**{point.name}**" if point in best else point.name
        psnr = f"{point.psnr:.1f}" if math.isfinite(point.psnr) else NONE
        distance, words = point.frechet.text(2), f"{point.found * 100:.1f}"
        cells = f"{point.seconds:.1f}", f"{dense / point.seconds:.1f}", psnr, distance, words
        table.add(name, *cells)


def draw(path: Path, given: list[Point], title: str) -> None:
    """Seconds against PSNR and against the Fréchet distance with its interval, points of the frontier joined."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    best = sorted(pareto(given), key=lambda point: point.seconds)
    heights = {PSNR: lambda point: point.psnr, FRECHET: lambda point: point.frechet.value}
    for axes, (name, height) in zip(figure.subplots(1, 2), heights.items(), strict=True):
        axes.plot([point.seconds for point in best], [height(point) for point in best], color="0.8", zorder=0)
        for point in (point for point in given if math.isfinite(height(point))):
            at = point.seconds, height(point)
            axes.plot(*at, "o" if point in best else "x", color="C0" if point in best else "0.5")
            axes.annotate(point.name, at, (4, 3), textcoords="offset points", fontsize=7)
            if name == FRECHET:
                interval = point.frechet.low, point.frechet.high
                axes.plot([point.seconds] * 2, interval, color="0.7", linewidth=1, zorder=0)
        axes.set(xscale="log", xlabel="seconds of the run", ylabel=name)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of benchmarks.clip_quality")
    parser.add_argument("steps", type=Path, help="output of benchmarks.full_model")
    parser.add_argument("--model", required=True, help="a title in that output")
    parser.add_argument("--dense", default=DENSE, help="its row that dense calls and anchors take")
    a = parser.parse_args()
    models = tables(a.steps.read_text())
    if a.model not in models:
        parser.error(f"--model must be one of {', '.join(models)}, got {a.model}")
    quality = json.loads((a.folder / "quality.json").read_text())
    found = points(quality["rows"], fit(models[a.model], a.dense))
    title = f"{a.model}, {quality['setting']['steps']} steps, {a.dense}"
    write(a.folder, found, title)
    draw(a.folder / "frontier.png", found, title)
    print(f"written: {a.folder / 'frontier.md'}, {a.folder / 'frontier.png'}")


if __name__ == "__main__":
    main()
