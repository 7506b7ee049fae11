"""One ComfyUI for all host tests, with this repository as a node pack."""

import os
import re
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from comfy_host import COMFYUI, PACK, Host, import_comfyui, version  # noqa: E402

from demo.server import Server  # noqa: E402


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The folder of a ComfyUI; where there is none the test is skipped."""
    if not (COMFYUI / "main.py").is_file():
        pytest.skip(f"no ComfyUI in {COMFYUI}: run `python -m demo.comfyui`, or set JENGA_COMFYUI to one")
    return COMFYUI


@pytest.fixture(scope="session")
def base_directory(comfyui, tmp_path_factory) -> Path:
    """A ComfyUI base folder with this repository and the test nodes in custom_nodes."""
    base = tmp_path_factory.mktemp("comfyui")
    packs = base / "custom_nodes"
    packs.mkdir()
    (packs / PACK).symlink_to(HERE.parent.parent, target_is_directory=True)
    (packs / "jenga_test_nodes").symlink_to(HERE / "test_nodes", target_is_directory=True)
    return base


@pytest.fixture(scope="session")
def host_session(base_directory) -> Host:
    folder, arguments = os.getcwd(), sys.argv
    os.chdir(COMFYUI)
    try:
        import_comfyui(base_directory)
        return Host(base_directory)
    finally:
        os.chdir(folder)
        sys.argv = arguments


@pytest.fixture(scope="session")
def server(here, host_session, base_directory, tmp_path_factory) -> Server:
    """ComfyUI as its own process; it shares the folders and checkpoints of the in-process host."""
    with Server(COMFYUI, base_directory, machine=here, models=tmp_path_factory.mktemp("no_models")) as server:
        yield server


def check_that_dense_is_explained(outputs: dict, status: list[tuple[str, str]]) -> None:
    """No run of any test keeps everything, or carves nothing, without the reason in its report and on its node."""
    lines = {node_id: text for node_id, text in status if "attention calls carved" in text}  # the last of each node
    for line in lines.values():
        carved, total, reasons = re.search(r"(\d+)/(\d+) attention calls carved \([^)]*\)(.*)", line).groups()
        assert int(carved) or not int(total) or reasons.strip("; "), f"dense without a reason on the node: {line}"
    for figures in (one for output in outputs.values() for one in output.get("jenga_report", ())):
        if figures["kept_share"] == 1.0:
            reasons = [*figures["fallbacks"], *figures["dense_by_choice"], *figures["notes"]]
            assert reasons, f"a kept share of 1.0 without a reason in the report: {figures['backends']}"
            said = any(reason in line for reason in reasons for line in lines.values())
            assert said or not lines, f"a kept share of 1.0 without a reason on the node: {lines}"


@pytest.fixture
def host(host_session) -> Host:
    """The session's host with nothing cached. One thread: those of tiny tensors wait for each other longest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    host_session.forget()
    host_session.on_progress = host_session.on_preview = None
    host_session.after_run = check_that_dense_is_explained
    yield host_session
    torch.set_num_threads(threads)


@pytest.fixture
def cell(found):
    """cell(model, column, text): what an assertion has just held for. A check that fails leaves its cell empty."""
    models = found.setdefault(f"ComfyUI {version()}", {})
    return lambda name, column, text: models.setdefault(name, {}).__setitem__(column, text)
