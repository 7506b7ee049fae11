"""What the build and the release scripts decide, without building anything."""

import ast
import hashlib
import importlib.util
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import jenga
from scripts import release

ROOT = Path(__file__).resolve().parents[2]


def load(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "version"),
    [("__version__ = '2.10.1+cpu'\n", (2, 10)), ("__version__ = '2.8.0'\n", (2, 8)), ("", (0, 0)), (None, (0, 0))],
)
def test_the_version_of_an_installed_torch_is_read_without_importing_it(tmp_path, text, version):
    if text is not None:
        (tmp_path / "version.py").write_text(text)
    assert load("cmake/find_torch.py").version(tmp_path) == version


def test_the_build_takes_a_torch_that_it_can_build_against(tmp_path, monkeypatch, capsys):
    find_torch = load("cmake/find_torch.py")
    for name, version in (("old", "2.9.1"), ("new", "2.12.0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "version.py").write_text(f"__version__ = '{version}'\n")
    monkeypatch.setattr(find_torch, "candidates", lambda: [tmp_path / "old", tmp_path / "none", tmp_path / "new"])
    assert find_torch.main() == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "new")
    monkeypatch.setattr(find_torch, "candidates", lambda: [tmp_path / "old"])
    assert find_torch.main() == 1


LINUX = {"sys_platform": "linux", "platform_machine": "x86_64"}
WINDOWS = {"sys_platform": "win32", "platform_machine": "AMD64"}
MAC = {"sys_platform": "darwin", "platform_machine": "arm64"}


@pytest.mark.parametrize(("machine", "tag"), [(LINUX, "manylinux_2_34_x86_64"), (WINDOWS, "win_amd64"), (MAC, None)])
def test_a_release_names_the_wheel_of_each_machine(machine, tag):
    once = release.with_references((ROOT / "requirements.txt").read_text(), "https://example.org/old")
    lines = release.with_references(once, "https://example.org/v1/").splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert {one.name for one in parsed if one.url is None} == {"matplotlib", "scikit-image"}
    urls = [one.url for one in parsed if one.url and one.marker.evaluate(machine)]
    name = f"comfyui_jenga-{release.version()}-py3-none-{tag}.whl"
    assert urls == ([f"https://example.org/v1/{name}"] if tag else [])


def test_the_version_is_the_same_everywhere():
    assert release.version() == jenga.__version__


def test_the_notes_are_of_this_version_alone():
    text = "# Changes\n\n## 0.2.0\n\nNew.\n\n## 0.1.0\n\nFirst.\n"
    assert release.changes(text, "0.2.0") == "New."
    assert release.changes(text, "0.1.0") == "First."
    with pytest.raises(RuntimeError, match="must have a heading '## 0.3.0'"):
        release.changes(text, "0.3.0")


def test_notes_need_both_wheels_and_the_pack(tmp_path):
    names = [*map(release.wheel_name, release.PLATFORMS), f"comfyui-jenga-{release.version()}.zip"]
    for name in names[1:]:
        (tmp_path / name).write_bytes(name.encode())
    with pytest.raises(RuntimeError, match=f"got no {names[0]}"):
        release.write_notes(tmp_path)
    (tmp_path / names[0]).write_bytes(b"")
    release.write_notes(tmp_path)
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names}
    assert "First release." in (tmp_path / "NOTES.md").read_text()


NODE_FILES = sorted([ROOT / "__init__.py", ROOT / "demo" / "prompt_node.py", *(ROOT / "nodes").rglob("*.py")])


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_node_files_start_no_process_and_read_no_environment(path):
    tree = ast.parse(path.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not {name.split(".")[0] for name in imported} & {"subprocess", "pip", "urllib", "requests", "ctypes"}
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"environ", "getenv", "system", "popen", "exec", "eval"}
