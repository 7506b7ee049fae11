"""docs/models.md: every row is there, and a cell is either what a test found or has its reason."""

import json
import sys

import pytest

from scripts import write_models

FULL = {row: dict.fromkeys(write_models.COLUMNS, "yes") for row in write_models.ROWS}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(cells of each run) -> exit status; the document is in a folder of the test."""
    monkeypatch.setattr(write_models, "DOCUMENT", tmp_path / "models.md")

    def run(*runs, older=None) -> int:
        paths = []
        for index, cells in enumerate([*runs, *([older] if older else [])]):
            paths.append(str(tmp_path / f"{index}.json"))
            (tmp_path / f"{index}.json").write_text(json.dumps(cells))
        tail = ["--older", paths.pop()] if older else []
        monkeypatch.setattr(sys, "argv", ["write_models", *paths, *tail])
        return write_models.main()

    return run


def test_the_document_has_every_row():
    text = write_models.DOCUMENT.read_text(encoding="utf-8")
    assert all(f"| {title} |" in text for title in write_models.ROWS.values())


def test_runs_are_joined_and_an_older_host_is_a_column(write):
    rows = list(FULL)
    first, second = ({"host": "A", "cells": {row: FULL[row] for row in part}} for part in (rows[:3], rows[3:]))
    older = {"host": "B", "cells": {rows[0]: {"carved": "44%", "all blocks kept": "1e-05"}, rows[1]: {"carved": "44%"}}}
    assert write(first, second, older=older) == 0
    table = [line for line in write_models.DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert table[0].endswith("| B |") and len(table) == 2 + len(rows)
    assert [line.rsplit("|", 2)[1].strip() for line in table[2:5]] == ["carved 44%, 1e-05", "partly", "–"]
    with pytest.raises(ValueError, match="cells must be of one host, got A, B"):
        write(first, older)


def test_a_cell_without_finding_or_reason_writes_nothing_and_is_named(write, capsys):
    cells = {row: {column: text for column, text in found.items()} for row, found in FULL.items()}
    del cells["mochi"]["stages"], cells["minimax-h3"]["stages"], cells["wan-causal"]
    assert write({"host": "A", "cells": {**cells, "another": {}}}) == 1
    assert capsys.readouterr().out.splitlines() == ["mochi: stages", "another: no row"]
    assert not write_models.DOCUMENT.exists()
