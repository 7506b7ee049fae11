"""The tables of benchmarks.clip_quality from its files: `python -m benchmarks.clip_tables FOLDER`.

Writes quality.md and quality.json into the folder: every measure of every run with its 95 % interval over prompts.
Bold: the interval has nothing in common with that of dense sampling with other seeds, the floor.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks import bootstrap, clip_metrics
from benchmarks.bootstrap import Estimate
from benchmarks.clip_runs import DENSE, OTHER_SEEDS, REFERENCES, file_name
from benchmarks.clip_set import ClipSet
from benchmarks.markdown import Document
from demo.probe import Probe
from demo.prompts import SLOTS

SETTING = "setting.json"  # what clip_quality wrote about its runs
REFERENCE = "real_reference.safetensors"  # features of real clips
NONE = "–"
FOUND = "words found"
# Measure -> digits in the table, factor there. The order of the columns.
COLUMNS = {
    FOUND: (1, 100),
    "Fréchet to real": (2, 1),
    "Fréchet to dense": (2, 1),
    "motion smoothness": (3, 100),
    "sharpness": (2, 1),
    "PSNR dB": (2, 1),
    "SSIM": (4, 1),
}
TEXT = (
    "Value and 95 % interval over prompts, by the bootstrap; **bold**: it has nothing in common with the interval of "
    f"*{OTHER_SEEDS}*, the floor. Words found: the prompt's words that the probe names, %. Fréchet distance of the "
    f"probe's features: to {REFERENCES} real clips a prompt, and to *{OTHER_SEEDS}* (that row: to *{DENSE}*); lower is "
    "nearer. Motion smoothness in %, sharpness in dB. PSNR and SSIM against the dense run of the same noise. Cost: "
    "attention work of the computed calls relative to dense."
)


class Estimates:
    """The measures of every run of one folder."""

    def __init__(self, sets: dict[str, ClipSet], reference: torch.Tensor, asked: dict[str, list[int]]):
        """reference: features [n · prompts, D] of real clips. asked: the word of every prompt, by slot."""
        self._sets, self._reference = sets, reference
        self._asked = {slot: torch.tensor(words) for slot, words in asked.items()}

    def of(self, name: str) -> dict[str, Estimate]:
        """Measure -> estimate; what does not apply to a run is left out."""
        clips = self._sets[name]
        found = clip_metrics.words_found(Probe.words(clips.logits), self._asked)
        measured = {FOUND: bootstrap.mean(found.mean(1))}
        measured |= {slot: bootstrap.mean(found[:, column]) for column, slot in enumerate(SLOTS)}
        measured["Fréchet to real"] = self._frechet(clips.features, self._reference)
        if others := self._sets.get(DENSE if name == OTHER_SEEDS else OTHER_SEEDS):
            measured["Fréchet to dense"] = self._frechet(clips.features, others.features)
        measured["motion smoothness"] = bootstrap.mean(clips.smoothness)
        measured["sharpness"] = bootstrap.mean(clips.sharpness)
        if not clips.psnr.isnan().any():
            measured |= {"PSNR dB": _mean_psnr(clips.psnr), "SSIM": bootstrap.mean(clips.ssim)}
        return measured

    def _frechet(self, features: torch.Tensor, reference: torch.Tensor) -> Estimate:
        """The prompts of both sets are drawn together; row = prompt + number of prompts · n in the reference."""
        count = len(features)
        of_prompt = reference.unflatten(0, (-1, count))

        def statistic(rows: torch.Tensor) -> float:
            return clip_metrics.frechet_distance(features[rows], of_prompt[:, rows].flatten(0, 1))

        return bootstrap.estimate(statistic, count, biased=True)


def _mean_psnr(psnr: torch.Tensor) -> Estimate:
    """Equal frames are infinitely near; a mean over prompts would be infinite for one of them."""
    return bootstrap.mean(psnr) if psnr.isfinite().all() else Estimate(float("inf"), float("inf"), float("inf"))


def cell(name: str, measured: dict[str, Estimate], floor: dict[str, Estimate], digits: int, factor: float) -> str:
    """One measure as text, bold where it is apart from the floor."""
    if name not in measured:
        return NONE
    value = measured[name]
    scaled = Estimate(*(factor * number for number in asdict(value).values()))
    apart = name in floor and value.apart_from(floor[name])  # the floor has no PSNR
    return f"**{scaled.text(digits)}**" if apart else scaled.text(digits)


def mean_text(values: torch.Tensor, digits: int) -> str:
    return NONE if values.isnan().any() else f"{float(values.mean()):.{digits}f}"


def load(folder: Path) -> tuple[dict, dict[str, ClipSet]]:
    """The setting, and by the order of its names the sets that are there."""
    setting = json.loads((folder / SETTING).read_text())
    paths = {name: folder / file_name(name) for name in setting["names"]}
    return setting, {name: ClipSet.load(path) for name, path in paths.items() if path.exists()}


def write(folder: Path, say: Callable[[str], None] = print) -> None:
    """quality.md and quality.json; without dense of other seeds nothing is bold or has a distance to dense."""
    setting, sets = load(folder)
    estimates = Estimates(sets, load_file(folder / REFERENCE)["features"], setting["asked"])
    measured = {name: estimates.of(name) for name in sets}
    floor = measured.get(OTHER_SEEDS, {})
    document = Document(folder / "quality.md", setting["introduction"])
    whole = document.table("Quality without a reference", TEXT, "run", "calls", "cost", *COLUMNS)
    slots = document.table("Words found by slot, %", "", "run", *SLOTS)
    for name, values in measured.items():
        clips = sets[name]
        cells = [cell(column, values, floor, *form) for column, form in COLUMNS.items()]
        whole.add(name, mean_text(clips.calls, 1), mean_text(clips.cost, 3), *cells)
        slots.add(name, *(cell(slot, values, floor, 1, 100) for slot in SLOTS))
        for note in clips.notes:
            document.note(f"{name}: {note}")
    rows = {
        name: {
            "work": [asdict(stage) for stage in sets[name].work],
            "quality": {key: asdict(value) for key, value in values.items()},
        }
        for name, values in measured.items()
    }
    text = json.dumps({"setting": setting, "rows": rows}, indent=1, ensure_ascii=False)
    (folder / "quality.json").write_text(text)
    say(f"written: {folder / 'quality.md'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
