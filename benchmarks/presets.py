"""Every preset against dense, on the demo model in ComfyUI's own classes: time, work and quality of decoded frames.

`python -m benchmarks.presets` writes docs/presets.md, row by row. Seconds are the median over prompts of the sampling
call alone, after a discarded run; quality is the mean over prompts and frames against the dense run of the same noise.
Two machines can share it, each with its own --steps and --output; `python -m benchmarks.markdown` joins their files.
"""

import argparse
import re
from datetime import date
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.host.demo_host import DTYPES, SIZES, DemoHost
from benchmarks.host.library import ROOT
from benchmarks.markdown import Document
from benchmarks.preset_bench import Bench
from benchmarks.preset_tables import TABLES
from demo.contact_sheet import PROMPTS

ALL_STEPS = (50, 20, 6)


def introduction(host: DemoHost, arguments: argparse.Namespace) -> str:
    """Title, what ran where, and the command."""
    options = [f"--device {arguments.device}", f"--size {arguments.size}", f"--prompts {arguments.prompts}"]
    options += [f"--steps {steps}" for steps in arguments.steps]
    options += [f"--dtype {arguments.dtype}"] if arguments.dtype != "auto" else []
    options += [f"--only '{arguments.only}'"] if arguments.only else []
    return (
        "# Presets on the demo model\n\n"
        f"{host.described()}, {arguments.prompts} of the {len(PROMPTS)} prompts of the contact sheet, seed of a "
        f"prompt its number, euler, scheduler simple, CFG 1; {date.today().isoformat()}:\n\n"
        f"    python -m benchmarks.presets {' '.join(options)}\n\n"
        "Seconds are the median over prompts of the sampling call alone, without loading and decoding, after a "
        "discarded run. × dense is taken inside one process. PSNR, SSIM and ST-LPIPS are means over prompts and "
        "decoded frames against the dense run of the same noise; ∞ where a frame is equal to the last bit. ST-LPIPS is "
        "the shift-tolerant LPIPS of Ghildyal and Liu (ECCV 2022), AlexNet features: lower is nearer, 0 is equal."
    )


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
