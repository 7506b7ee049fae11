"""What the build and the release scripts decide, without building anything."""

import importlib.util
from pathlib import Path

import pytest

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
