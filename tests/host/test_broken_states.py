"""A broken installation of Jenga never stops ComfyUI: the nodes appear, run in plain torch and say why.

In the oldest and the newest ComfyUI that we test, with the pack in a folder of another name. broken_start.py starts
each ComfyUI and forks it for every state.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from demo.comfyui import NEWEST, OLDEST, folder_of

SCRIPT = Path(__file__).resolve().parent / "broken_start.py"
# State -> what the node says.
REASONS = {
    "no_library": "native_cpu: libjenga_cpu.so is not installed beside jenga",
    "foreign_library": "native_cpu: libjenga_cpu.so does not load under torch",
    "old_torch": "native_cpu: torch must be 2.10 or newer, got 2.8.0",
    "old_wheel": "native_cpu: libjenga_cpu.so is not installed beside jenga",
}


@pytest.fixture(scope="module", params=[NEWEST, OLDEST])
def started(request, tmp_path_factory) -> tuple[Path, str]:
    """The folder of the results, and the log."""
    comfyui = folder_of(request.param)
    if not (comfyui / "main.py").is_file():
        pytest.skip(f"no ComfyUI {request.param} in {comfyui}: run `python -m demo.comfyui --oldest`")
    base, results = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("results")
    said = subprocess.run(
        [sys.executable, str(SCRIPT), str(base), str(results)],
        env={**os.environ, "JENGA_COMFYUI": str(comfyui)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    log = said.stdout + said.stderr
    assert said.returncode == 0, log
    return results, log


def result(started, state: str) -> dict:
    file = started[0] / f"{state}.pt"
    assert file.is_file(), started[1]
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("state", REASONS)
def test_a_stock_workflow_is_as_without_the_pack(started, state):
    assert torch.equal(result(started, state)["stock"], result(started, "without_pack")["stock"])


@pytest.mark.parametrize("state", REASONS)
def test_the_nodes_run_in_plain_torch_and_say_why(started, state):
    found = result(started, state)
    assert set(found["backends"]) == {"reference"}
    assert any(REASONS[state] in text for _, text in found["texts"]), found["texts"]
    assert found["carved"].isfinite().all() and found["carved"].std() > 0


@pytest.mark.parametrize("state", REASONS)
def test_strict_makes_it_an_error(started, state):
    assert REASONS[state] in result(started, state)["strict"]


def test_a_wheel_of_another_version_is_named_in_the_log(started):
    assert "the installed wheel must be of the node pack's version" in started[1], started[1]
