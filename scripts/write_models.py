"""Write docs/models.md from what tests found: `python -m scripts.write_models CELLS.json ...`.

A cell is written by the test that checked it, right after its assertions:

    JENGA_MODEL_CELLS=CELLS.json python -m pytest tests/host/test_every_family.py tests/host/test_audio_video.py \
        tests/host/test_minimax_h3.py tests/python/test_diffusers_families.py

Cells of several runs are joined. The newest ComfyUI of them gives the table, an older one (JENGA_COMFYUI) a column of
it. A cell that no test wrote has its reason in scripts/model_rows.py; without one nothing is written and the cells are
named, exit status 1.
"""

import argparse
import json
import platform
from datetime import date
from pathlib import Path

from scripts.model_rows import COMFYUI, DIFFUSERS, Table

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "models.md"
HEAD = """# Which models, checked

Written by `python -m scripts.write_models`; do not edit. Every cell is what a test found on a small model of the host's
own classes with random weights ({hosts}, {machine}, {day}); the tests are `test_every_family.py`,
`test_audio_video.py` and `test_minimax_h3.py` in `tests/host`, and `tests/python/test_diffusers_families.py`.

- **sequence**: the self-attention sequence. A value of the latent was changed, and the one token that changed was where
  this says. Others (text, references, guides, poses, motion, audio) are always kept.
- **carved**: the kept share of key blocks at density {density}; nothing fell back. Such a clip has few blocks, so that
  the share is coarse.
- **all blocks kept**: the largest difference between a run with density 1.0, which permutes tokens and carves, and the
  model without Jenga, in fp32; at most 1e-4. **with anchors**: the same with anchors on every second step.
- **guidance**: how a run with two conditionings calls the model: both in one batch, or one after the other.
"""
HEAD_COMFYUI = """
## ComfyUI

- **stages**: the first steps ran on a smaller latent. **conditions that follow**: arguments of the model that had the
  size of the stage.
- **compile**: behind ComfyUI's *TorchCompileModel* the run is carved and within 1 % of the run that is not compiled.
- **{older}**: the same checks there. "place": the sequence is the one on the left, found in the same way. "cannot":
  what that ComfyUI does not do without Jenga either.

A video model of no table is looked at when it runs. Its tokens are compared with the patches of its latent: where the
likeness of neighbours is the same in both, the video begins. This sees the patch, the order of the tokens and where
they begin, and needs a latent with noise in it. Then its attention is compared once, all blocks kept, with ComfyUI's
own; this sees a mask, a scale or a bias that the model adds by itself, and no wrong place, since dense attention is the
same in any order. Where either fails the model runs dense and the node says why, once.
"""
HEAD_DIFFUSERS = """
## diffusers

The second host; how to use it is in `docs/diffusers.md`. There are no stages, since a pipeline makes its latent once,
and step caches are the library's own.

- **conditions**: arguments beside the text that were changed; the carved video changed as the dense one did.
- **compile**: its blocks were compiled before Jenga came, were carved, and ran dense again when it had gone.
- **its pipeline**: the library's own, at density 0.2 and at 1.0; else only the loop of the tests, which does what all
  of them do between their encoders.
"""


def cell(table: Table, cells: dict, row: str, column: str) -> str | None:
    """What a test found, or the reason that it found nothing; None for neither."""
    if text := cells.get(row, {}).get(column):
        return text
    if whole := table.empty.get((row, "")):
        return f"– {whole}" if column == table.columns[0] else "–"
    reason = table.empty.get((row, column)) or table.empty.get(("", column))
    return reason and f"– {reason}"


def older_cell(cells: dict, newest: dict, row: str) -> str:
    """The checks that an older ComfyUI passed, in one cell."""
    passed = cells.get(row, {})
    found = [f"carved {passed['carved']}"] if "carved" in passed else []
    found += [passed[column] for column in ("all blocks kept", "with anchors") if column in passed]
    found += ["stages"] if "stages" in passed else []
    same = passed.get("sequence") and passed["sequence"] == newest.get(row, {}).get("sequence")
    found += ["place"] if same else []
    text = ", ".join(found) or "–"
    return f"{text}; cannot: {passed['cannot']}" if "cannot" in passed else text


def joined(runs: list[dict]) -> dict[str, dict]:
    """Several runs of the tests as one: host -> row -> column -> text."""
    hosts: dict[str, dict] = {}
    for run in runs:
        for host, cells in run.items():
            rows = hosts.setdefault(host, {})
            for row, found in cells.items():
                rows.setdefault(row, {}).update(found)
    return hosts


def of_host(hosts: dict[str, dict], name: str) -> list[str]:
    """The hosts of that name, the newest version first."""
    versions = [host for host in hosts if host.split()[0] == name]
    return sorted(versions, key=lambda host: [int(part) for part in host.split()[1].split(".")], reverse=True)


def missing(table: Table, cells: dict) -> list[str]:
    """Cells that have neither a finding nor a reason, and findings that have no row."""
    empty = [
        f"{row}: {column}" for row in table.rows for column in table.columns if cell(table, cells, row, column) is None
    ]
    return [*empty, *(f"{row}: no row" for row in cells.keys() - table.rows.keys())]


def lines_of(table: Table, cells: dict, older: dict[str, dict]) -> str:
    """The table in Markdown. older: of other versions of the host, a column each."""
    lines = [["model", *table.columns, *older]]
    lines.append(["---"] * len(lines[0]))
    for row, title in table.rows.items():
        found = [cell(table, cells, row, column) for column in table.columns]
        lines.append([title, *found, *(older_cell(one, cells, row) for one in older.values())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", type=Path, nargs="+", help="of one run of the tests, or of several")
    hosts = joined([json.loads(path.read_text()) for path in parser.parse_args().cells])
    comfyui, diffusers = of_host(hosts, "ComfyUI"), of_host(hosts, "diffusers")
    if not comfyui or not diffusers:
        print(f"write_models: cells must be of ComfyUI and of diffusers, got {', '.join(hosts) or 'none'}")
        return 1
    newest, *others = comfyui
    wrong = missing(COMFYUI, hosts[newest]) + missing(DIFFUSERS, hosts[diffusers[0]])
    if wrong:
        print("\n".join(wrong))
        return 1
    machine, day = f"{platform.machine()} CPU", date.today().isoformat()
    parts = (
        HEAD.format(hosts=f"{newest}, {diffusers[0]}", machine=machine, day=day, density="0.3, in diffusers 0.2"),
        HEAD_COMFYUI.format(older=", ".join(others) or "older versions"),
        lines_of(COMFYUI, hosts[newest], {one: hosts[one] for one in others}),
        HEAD_DIFFUSERS,
        lines_of(DIFFUSERS, hosts[diffusers[0]], {}),
    )
    DOCUMENT.write_text("\n".join(part.strip("\n") + "\n" for part in parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
