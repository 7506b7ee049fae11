"""The words of presets, qualities and families say what the rows hold, and the documents have them."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from jenga.runtime import quality_words
from jenga.runtime.qualities import QUALITIES
from jenga.sampling import preset_words
from jenga.sampling.presets import ROWS, STAGE_ROWS, STAGES

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def write_tables():
    """The script as a module of this process."""
    from scripts import write_tables

    return write_tables


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def line(name: str) -> str:
    return next(line for line in plain(preset_words.tooltip("off.")).splitlines() if line.startswith(f"{name},"))


def test_every_family_with_numbers_of_its_own_is_named():
    assert "Keeps 30 %, then 20 % of the key blocks" in line("turbo")
    assert "Wan 14B: 50 %, then 10 %" in line("turbo")
    assert "Wan 1.3B: 25 %, then 15 %" in line("turbo")
    assert "Wan 14B: 30 % for half of the steps, then 20 %" in line("base")
    assert "Wan" not in line("flash")
    assert [round(rule.density, 9) for rule in STAGES["wan-14b"]["turbo"]] == [0.5, 0.1]


def test_sizes_and_reuse_are_told():
    assert plain(preset_words.sizes(STAGES["any"]["base"])) == "full size"
    assert plain(preset_words.sizes(STAGES["any"]["turbo"])) == "half of the steps at 75 % size, then full size"
    assert plain(preset_words.sizes(STAGES["any"]["3-stage"])) == (
        "30 % of the steps at 50 % size, up to half at 75 %, then full size"
    )
    assert [row.name for row in ROWS if line(row.name).endswith("Step reuse: no.")] == ["few-step"]
    assert line("turbo").endswith("Step reuse: static.")


def test_a_position_of_the_dial_tells_its_anchors_and_its_threshold():
    assert line("balanced") == (
        "balanced, the default of Jenga: full size. Keeps 10 % of the key blocks, and each layer is dense on every 6th "
        "step, in turns. Step reuse: adaptive, 0.3; by published coefficients 0.2."
    )
    assert line("fast").endswith("Step reuse: adaptive, 0.8; by published coefficients 0.2.")
    assert "fast," not in preset_words.tooltip("off.", STAGE_ROWS)


def test_every_distance_of_anchors_has_its_words():
    assert "each layer is dense on every second step, in turns" in line("near-lossless")
    assert "each layer is dense on the first step of each size" in line("fast")


@pytest.mark.parametrize(("table", "rows"), [(preset_words.table, ROWS), (preset_words.stages_table, STAGE_ROWS)])
def test_the_table_has_a_row_for_each_preset(table, rows):
    assert [row.split(" | ")[0].removeprefix("| ") for row in table().splitlines()[2:]] == [row.name for row in rows]


def test_a_quality_tells_its_share_and_its_anchors():
    lines = {line.split(":")[0]: line for line in plain(quality_words.tooltip("custom")).splitlines()}
    assert set(QUALITIES) < set(lines)
    assert "Keeps 10 % of the blocks; no anchors" in lines["fast"]
    assert "Keeps 5 %, and each layer is dense on every 8th step" in lines["balanced"]
    assert [row.split(" | ")[0] for row in quality_words.table().splitlines()[2:]] == [
        f"| {name}" for name in QUALITIES
    ]


def test_the_table_has_a_row_for_each_family(write_tables):
    titles = [row.split(" | ")[0].removeprefix("| ") for row in write_tables.families_table().splitlines()[2:]]
    assert titles == [
        "Wan 2.1 and 2.2",
        "Wan, autoregressive",
        "HunyuanVideo",
        "LTX-Video",
        "LTX-2",
        "CogVideoX",
        "Kandinsky 5",
        "Cosmos",
        "Mochi",
        "MiniMax H3",
    ]


def check(root: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "scripts.write_tables", "--check"], cwd=root, capture_output=True, text=True
    )


def test_the_documents_are_current():
    result = check(ROOT)
    assert (result.returncode, result.stdout) == (0, "")


def test_a_changed_row_is_noticed(write_tables, monkeypatch):
    text = (ROOT / "web/docs/Jenga.md").read_text(encoding="utf-8")
    assert write_tables.current(text) == text
    changed = dataclasses.replace(ROWS[0], purpose="something else")
    monkeypatch.setattr(preset_words, "ROWS", (changed, *ROWS[1:]))
    assert "| near-lossless | something else |" in write_tables.current(text)
    with pytest.raises(KeyError):
        write_tables.current("<!-- table: nothing -->\n<!-- end -->")
