"""docs/models.md: every row is there, and a cell is either what a test found or has its reason."""

import json
import sys

import pytest

from scripts import write_models
from scripts.model_rows import COMFYUI, DIFFUSERS

NEWEST, OLDER, LIBRARY = "ComfyUI 0.30.0", "ComfyUI 0.9.1", "diffusers 0.42.1"


def full(table) -> dict:
    return {row: dict.fromkeys(table.columns, "yes") for row in table.rows}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(runs) -> exit status; the document is in a folder of the test."""
    monkeypatch.setattr(write_models, "DOCUMENT", tmp_path / "models.md")

    def run(*runs) -> int:
        paths = []
        for index, cells in enumerate(runs):
            paths.append(str(tmp_path / f"{index}.json"))
            (tmp_path / f"{index}.json").write_text(json.dumps(cells))
        monkeypatch.setattr(sys, "argv", ["write_models", *paths])
        return write_models.main()

    return run


def test_the_document_has_every_row():
    text = write_models.DOCUMENT.read_text(encoding="utf-8")
    assert all(f"| {title} |" in text for table in (COMFYUI, DIFFUSERS) for title in table.rows.values())


def test_runs_are_joined_and_an_older_host_is_a_column(write):
    cells, rows = full(COMFYUI), list(COMFYUI.rows)
    first, second = ({NEWEST: {row: cells[row] for row in part}} for part in (rows[:3], rows[3:]))
    older = {
        rows[0]: {"carved": "44%", "all blocks kept": "1e-05", "stages": "yes", "sequence": "yes"},
        rows[1]: {"carved": "44%", "sequence": "another"},
        rows[2]: {"stages": "yes", "cannot": "previews"},
    }
    assert write(first, {OLDER: older}, second, {LIBRARY: full(DIFFUSERS)}) == 0
    text = write_models.DOCUMENT.read_text(encoding="utf-8")
    table = [line for line in text.split("## diffusers")[0].splitlines() if line.startswith("|")]
    assert table[0].endswith(f"| {OLDER} |") and len(table) == 2 + len(rows)
    assert [line.rsplit("|", 2)[1].strip() for line in table[2:6]] == [
        "carved 44%, 1e-05, stages, place",
        "carved 44%",
        "stages; cannot: previews",
        "–",
    ]
    assert sum(line.startswith("|") for line in text.splitlines()) == len(table) + 2 + len(DIFFUSERS.rows)


def test_a_cell_without_finding_or_reason_writes_nothing_and_is_named(write, capsys):
    cells, library = full(COMFYUI), full(DIFFUSERS)
    del cells["mochi"]["stages"], cells["wan-causal"], library["ltx"]["its pipeline"], library["wan"]["carved"]
    assert write({NEWEST: {**cells, "another": {}}, LIBRARY: library}) == 1
    assert capsys.readouterr().out.splitlines() == ["mochi: stages", "another: no row", "wan: carved"]
    assert not write_models.DOCUMENT.exists()


def test_both_hosts_are_asked_for(write, capsys):
    assert write({NEWEST: full(COMFYUI)}) == 1
    assert "must be of ComfyUI and of diffusers" in capsys.readouterr().out
