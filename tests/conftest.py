"""What all tests share: this repository is a folder, whatever its name."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


class RepositoryIsNoPackage:
    """The root's __init__.py is for ComfyUI. pytest would import it under the name of the folder, before everything
    else, and a checkout called `jenga` or `demo` would stand in the place of the package of that name.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Dir | None:
        return pytest.Dir.from_parent(parent, path=path) if path.resolve() == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RepositoryIsNoPackage())


@pytest.fixture(scope="session")
def here(request):
    """What this machine computes fast, said once: what servers and benchmarks of the tests follow."""
    from demo import machine

    measured = machine.measure(cpu=True)
    request.config.get_terminal_writer().line(f"\n{measured}")
    return measured


@pytest.fixture(scope="session")
def found() -> dict:
    """What checks found, by host, model and column; JENGA_MODEL_CELLS names the file for scripts.write_models."""
    hosts: dict[str, dict[str, dict[str, str]]] = {}
    yield hosts
    if path := os.environ.get("JENGA_MODEL_CELLS"):
        Path(path).write_text(json.dumps(hosts, indent=1))


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
