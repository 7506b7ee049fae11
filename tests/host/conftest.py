"""One ComfyUI for all host tests, with this repository as a node pack."""

import os
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from comfy_host import COMFYUI, PACK, Host, import_comfyui  # noqa: E402

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


@pytest.fixture
def host(host_session) -> Host:
    """The session's host with nothing cached. One thread: those of tiny tensors wait for each other longest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    host_session.forget()
    host_session.on_progress = host_session.on_preview = None
    yield host_session
    torch.set_num_threads(threads)


@pytest.fixture
def inputs(monkeypatch) -> list:
    """What carved layers were given, in their order."""
    from jenga.runtime.call import AttentionInput

    seen, carve = [], AttentionInput.carve

    def note(self, *args, **kwargs):
        seen.append(self)
        return carve(self, *args, **kwargs)

    monkeypatch.setattr(AttentionInput, "carve", note)
    return seen
