"""The benchmark of whole models, with tiny ones on the CPU: every row is there and says something sensible."""

import subprocess
import sys

import pytest
from comfy_host import ROOT

COLUMNS = ("run", "s", "× stock", "attention s", "rest s", "kept share", "peak GiB")


@pytest.fixture(scope="module")
def output(comfyui) -> str:
    """What the script prints. A process of its own: it needs a ComfyUI that no server was started in."""
    command = [sys.executable, "-m", "benchmarks.full_model", "--tiny", "--device", "cpu", "--repeats", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def table(output: str, title: str) -> dict[str, dict[str, str]]:
    """Rows of the table under a heading by their first cell."""
    section = output.split(f"## {title}, ")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert tuple(rows[0]) == COLUMNS
    return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in rows[2:]}


@pytest.mark.parametrize("title", ["tiny Wan", "tiny Wan, wider", "tiny HunyuanVideo"])
def test_every_run_has_its_row(output, title):
    rows = table(output, title)
    assert list(rows) == ["dense, stock", "Jenga Attention, 10%", "Jenga Attention, 20%"]
    for row in rows.values():
        whole, attention, rest = (float(row[name]) for name in ("s", "attention s", "rest s"))
        assert 0 < attention < whole
        assert rest == pytest.approx(whole - attention, abs=0.0011)
        assert float(row["× stock"]) > 0
    kept = [float(row["kept share"]) for row in rows.values()]
    assert kept[0] == 1
    assert 0.1 < kept[1] < kept[2] < 1


def test_what_did_not_run_is_named(output):
    assert output.count("dense, cuDNN: left out, it needs a GPU") == 3


def test_every_layer_was_carved(output):
    """The note under a table has the backends by calls; a dense one would be among them."""
    notes = [line for line in output.splitlines() if line.startswith("Jenga Attention, ")]
    assert len(notes) == 6
    assert not any("dense" in line for line in notes)
