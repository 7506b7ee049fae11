"""What 8 bits cost a whole run: PSNR to dense sampling, prompt by prompt beside the same run in 16 bits.

`python -m benchmarks.clip_precision` reads what `python -m benchmarks.clip_quality --only '^precision'` sampled, with
the kernels of the card. Of every precision the mean PSNR of the clips, and the mean of its differences to 16 bits with
their 95 % interval (bootstrap.py), against the budget of the closed loop.
"""

import argparse
from pathlib import Path

from benchmarks import bootstrap
from benchmarks.bench_precision import CLOSED_LOOP_BUDGET
from benchmarks.clip_runs import file_name
from benchmarks.clip_set import ClipSet
from benchmarks.common import print_head, print_row
from benchmarks.host.library import ROOT
from benchmarks.search_space import PRECISE, PREFIX
from jenga.carving.quantise import PRECISIONS

SIXTEEN_BIT, *EIGHT_BIT = PRECISIONS


def verdict(difference: bootstrap.Estimate) -> str:
    """The loss against the budget, as far as the interval can tell."""
    if difference.low >= -CLOSED_LOOP_BUDGET:
        return "holds"
    return "over" if difference.high < -CLOSED_LOOP_BUDGET else "not settled"


def cells(folder: Path, runs: dict) -> list[str]:
    """runs: by precision. Those that were not sampled have no figures. Raises SystemExit without one in 16 bits."""
    paths = {name: folder / file_name(run.name) for name, run in runs.items()}
    sets = {name: ClipSet.load(path) for name, path in paths.items() if path.exists()}
    if SIXTEEN_BIT not in sets:
        raise SystemExit(f"clip_precision: --folder must hold every run in 16 bits, got no {paths[SIXTEEN_BIT]}")
    row = [f"{len(sets[SIXTEEN_BIT])}", f"{sets[SIXTEEN_BIT].psnr.mean():.2f}"]
    for name in EIGHT_BIT:
        if name not in sets:
            row.append("–")
            continue
        difference = bootstrap.mean(sets[name].psnr - sets[SIXTEEN_BIT].psnr)
        row.append(f"{sets[name].psnr.mean():.2f}, {difference.text(2)}, {verdict(difference)}")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "clip_quality")
    arguments = parser.parse_args()
    print_head("run", "prompts", SIXTEEN_BIT, *EIGHT_BIT)
    for setting, runs in PRECISE.items():
        print_row(setting.name.removeprefix(PREFIX), *cells(arguments.folder, runs))


if __name__ == "__main__":
    main()
