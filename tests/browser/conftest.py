"""A ComfyUI with the demo weights, and its page in a browser."""

import os
import sys
from pathlib import Path

import pytest

from demo.server import ROOT, WEIGHTS, Server
from scripts.page import REMEDY, Page, chromium

sys.path.insert(0, str(Path(__file__).resolve().parent))  # layout.py

COMFYUI = Path(os.environ.get("JENGA_COMFYUI", ROOT / ".cache" / "ComfyUI"))


@pytest.fixture(scope="session")
def demo_server(here, tmp_path_factory):
    if chromium() is None:
        pytest.skip(f"no Chromium: {REMEDY}")
    if not (COMFYUI / "main.py").is_file():
        pytest.skip(f"no ComfyUI in {COMFYUI}: run `python -m demo.comfyui`, or set JENGA_COMFYUI to one")
    base = tmp_path_factory.mktemp("browser")
    with Server(COMFYUI, base, machine=here, models=WEIGHTS) as server:
        yield server


@pytest.fixture(scope="module")
def page(demo_server):
    """A tab of its own for every module. Playwright's event loop runs while it is open, and one thread has one loop: it
    must be closed before the tests that run ComfyUI in this process.
    """
    with Page(demo_server.address) as page:
        yield page
