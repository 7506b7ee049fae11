"""benchmarks.clip_quality: two prompts, small, on the CPU, in a process of its own; then once more from its files."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from comfy_host import ROOT

STEPS = 5
BROKEN = ["broken: 5% kept, no compensation", f"broken: 4 of {STEPS} calls"]
ONLY = "other seeds|broken|turbo$"
RUNS = ["real clips", "dense", "dense, other seeds", *BROKEN, "turbo"]


def run(comfyui: Path, folder: Path, **options) -> subprocess.CompletedProcess:
    given = {"device": "cpu", "size": "half", "prompts": 2, "steps": STEPS, "only": ONLY, "folder": folder}
    arguments = [text for name, value in {**given, **options}.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.clip_quality", *arguments]
    environment = {**os.environ, "JENGA_COMFYUI": str(comfyui)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)


@pytest.fixture(scope="module")
def folder(comfyui, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip_quality")
    done = run(comfyui, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_run_has_its_row_and_says_what_it_did(folder):
    rows = json.loads((folder / "quality.json").read_text())["rows"]
    assert list(rows) == RUNS
    for name, row in rows.items():
        assert all(math.isfinite(value) for measure in row["quality"].values() for value in measure.values()), name
    work = {name: row["work"] for name, row in rows.items()}
    assert [sum(stage["computed"] for stage in work[name]) for name in RUNS] == [0, STEPS, STEPS, STEPS, 4, STEPS]
    assert work["dense"] == [{"scale": 1.0, "computed": STEPS, "dense": 1.0, "anchors": 0.0, "kept": 1.0}]
    assert work[BROKEN[0]][0]["dense"] == 0 and 0.05 <= work[BROKEN[0]][0]["kept"] < 0.1
    assert work[BROKEN[1]][0]["dense"] == 1
    assert [stage["scale"] for stage in work["turbo"]] == [0.75, 1.0]


def test_clips_differ_by_seed_and_are_compared_with_their_own_dense_run(folder):
    rows = {name: row["quality"] for name, row in json.loads((folder / "quality.json").read_text())["rows"].items()}
    assert all("PSNR dB" not in rows[name] for name in RUNS[:3])
    assert all(10 < rows[name]["PSNR dB"]["value"] < 60 for name in RUNS[3:])
    distance = rows["dense"]["Fréchet to dense"]["value"]
    assert distance == pytest.approx(rows["dense, other seeds"]["Fréchet to dense"]["value"]) and distance > 0


def test_what_is_there_is_not_sampled_again_and_other_settings_are_refused(folder, comfyui):
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    again = run(comfyui, folder)
    assert again.returncode == 0, again.stderr
    assert times == {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    refused = run(comfyui, folder, steps=STEPS + 1)
    assert refused.returncode != 0 and "--folder must be one for every setting" in refused.stderr
