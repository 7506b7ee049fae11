"""Write docs/models.md from what tests found: `python -m scripts.write_models CELLS.json [--older OLDER.json]`.

A cell is written by the test that checked it, right after its assertions:

    JENGA_MODEL_CELLS=CELLS.json python -m pytest tests/host/test_every_family.py tests/host/test_audio_video.py

OLDER.json is the same of an older ComfyUI (JENGA_COMFYUI); it gives one column. A cell that no test wrote has its
reason in EMPTY; without one nothing is written and the cells are named, exit status 1.
"""

import argparse
import json
import platform
from datetime import date
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "models.md"
COLUMNS = (
    "sequence",
    "carved",
    "all blocks kept",
    "with anchors",
    "stages",
    "conditions that follow",
    "guidance",
    "compile",
)
ROWS = {
    "wan21-t2v": "Wan 2.1, 2.2 text to video",
    "wan21-i2v": "Wan 2.1 image to video",
    "wan22-14b-i2v": "Wan 2.2 14B image to video",
    "wan22-5b-t2v": "Wan 2.2 5B text to video",
    "wan22-5b-i2v": "Wan 2.2 5B image to video",
    "wan-vace": "Wan VACE",
    "wan-fun": "Wan Fun Control with a reference",
    "wan-phantom": "Wan Phantom subjects",
    "wan-camera": "Wan Fun Camera",
    "wan-s2v": "Wan 2.2 S2V",
    "wan-humo": "HuMo",
    "wan-scail": "SCAIL",
    "wan-scail2": "SCAIL 2",
    "wan-animate": "Wan 2.2 Animate",
    "wan-dancer": "Wan Dancer",
    "wan-causal": "Wan, autoregressive",
    "hunyuan-t2v": "HunyuanVideo text to video",
    "hunyuan-i2v-concat": "HunyuanVideo image to video",
    "hunyuan-reference": "HunyuanVideo with a reference",
    "hunyuan15": "HunyuanVideo 1.5 text to video",
    "hunyuan15-i2v": "HunyuanVideo 1.5 image to video",
    "ltxv": "LTX-Video",
    "ltxv-guide": "LTX-Video with a guide",
    "ltx2": "LTX-2 with audio",
    "cogvideox": "CogVideoX 1.0",
    "cogvideox15": "CogVideoX 1.5",
    "cogvideox-i2v": "CogVideoX image to video",
    "kandinsky5": "Kandinsky 5 text to video",
    "kandinsky5-i2v": "Kandinsky 5 image to video",
    "cosmos1": "Cosmos 1",
    "predict2": "Cosmos Predict2",
    "mochi": "Mochi",
    "minimax-h3": "MiniMax H3",
    "a model of no table": "a made-up model of no table",
}
# (row, column), "" for all of them: why no test can write the cell.
EMPTY = {
    ("wan-causal", ""): "attends what it kept of earlier frames: dense, and says so",
    ("", "conditions that follow"): "takes none of the clip's size",
    ("", "compile"): "not run: its blocks are those of a row that was",
    ("hunyuan-reference", "guidance"): "ComfyUI's own reference takes no batch of two",
    ("ltxv-guide", "stages"): "guides lie in pixels of the full size: full size",
    ("minimax-h3", "guidance"): "ComfyUI takes a batch of one",
    ("minimax-h3", "stages"): "noises its audio on a schedule of its own: full size",
    ("a model of no table", "compile"): "not run",
    ("a model of no table", "stages"): "one size: nobody knows its conditions",
}
HEAD = """# Which models, checked

Written by `python -m scripts.write_models`; do not edit. Every cell is what a test found on a small model of ComfyUI's
own classes with random weights ({host}, {machine}, {day}); the tests are `tests/host/test_every_family.py` and
`tests/host/test_audio_video.py`.

- **sequence**: the self-attention sequence. A value of the latent was changed, and the one token that changed was where
  this says. Others (text, references, guides, poses, motion, audio) are always kept.
- **carved**: the kept share of key blocks at density 0.3; nothing fell back. Such a clip has seven blocks, so that the
  share is coarse.
- **all blocks kept**: the largest difference between a run with density 1.0, which permutes tokens and carves, and the
  model without Jenga, in fp32; at most 1e-4. **with anchors**: the same with anchors on every second step.
- **stages**: the first steps ran on a smaller latent. **conditions that follow**: arguments of the model that had the
  size of the stage.
- **guidance**: both conditionings in one batch.
- **compile**: behind ComfyUI's *TorchCompileModel* the run is carved and within 1 % of the run that is not compiled.

A video model of no table is looked at when it runs. Its tokens are compared with the patches of its latent: where the
likeness of neighbours is the same in both, the video begins. This sees the patch, the order of the tokens and where
they begin, and needs a latent with noise in it. Then its attention is compared once, all blocks kept, with ComfyUI's
own; this sees a mask, a scale or a bias that the model adds by itself, and no wrong place, since dense attention is the
same in any order. Where either fails the model runs dense and the node says why, once.

What the second host, diffusers, has is in `docs/diffusers.md`.
"""


def cell(cells: dict, row: str, column: str) -> str | None:
    """What a test found, or the reason that it found nothing; None for neither."""
    if text := cells.get(row, {}).get(column):
        return text
    if whole := EMPTY.get((row, "")):
        return f"– {whole}" if column == COLUMNS[0] else "–"
    reason = EMPTY.get((row, column)) or EMPTY.get(("", column))
    return reason and f"– {reason}"


def older_cell(cells: dict | None, row: str) -> str:
    """The checks that an older ComfyUI passed, in one cell."""
    passed = cells.get(row, {}) if cells else {}
    if not passed:
        return "–"
    return f"carved {passed['carved']}, {passed['all blocks kept']}" if "all blocks kept" in passed else "partly"


def joined(runs: list[dict]) -> dict:
    """Several runs of the tests as one. Raises ValueError where they are not of one ComfyUI."""
    hosts = {run["host"] for run in runs}
    if len(hosts) > 1:
        raise ValueError(f"write_models: cells must be of one host, got {', '.join(sorted(hosts))}")
    cells: dict[str, dict[str, str]] = {}
    for run in runs:
        for row, found in run["cells"].items():
            cells.setdefault(row, {}).update(found)
    return {"host": hosts.pop(), "cells": cells}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", type=Path, nargs="+", help="of one ComfyUI, from one run of the tests or from several")
    parser.add_argument("--older", type=Path, help="of an older ComfyUI")
    arguments = parser.parse_args()
    newest = joined([json.loads(path.read_text()) for path in arguments.cells])
    older = json.loads(arguments.older.read_text()) if arguments.older else None
    table = {row: [cell(newest["cells"], row, column) for column in COLUMNS] for row in ROWS}
    missing = [
        f"{row}: {column}"
        for row, texts in table.items()
        for column, text in zip(COLUMNS, texts, strict=True)
        if text is None
    ]
    unknown = newest["cells"].keys() - ROWS.keys()
    if missing or unknown:
        print("\n".join([*missing, *(f"{row}: no row" for row in unknown)]))
        return 1
    head = ["model", *COLUMNS, *([older["host"]] if older else [])]
    lines = [head, ["---"] * len(head)]
    for row, texts in table.items():
        lines.append([ROWS[row], *texts, *([older_cell(older["cells"], row)] if older else [])])
    text = HEAD.format(host=newest["host"], machine=f"{platform.machine()} CPU", day=date.today().isoformat())
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    DOCUMENT.write_text(f"{text}\n{body}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
