"""A checkout works under any name: neither pytest nor Python takes its folder for a package of that name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make_package(folder: Path, name: str) -> Path:
    """An empty package in `folder`; its __init__.py."""
    package = folder / name
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    return package / "__init__.py"


@pytest.mark.parametrize("name", ["jenga", "demo", "my jenga", "jenga-main"])
def test_pytest_takes_the_folder_for_no_package(name, tmp_path):
    checkout, installed = tmp_path / "a folder" / name, tmp_path / "installed"
    (checkout / "tests" / "python").mkdir(parents=True)
    for file in ("__init__.py", "pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, checkout / file)
    expected = [make_package(installed, "jenga"), make_package(checkout, "demo")]
    test = f"def test():\n    import sys; sys.path.insert(0, {str(installed)!r})\n    import demo, jenga\n"
    test += f"    assert [jenga.__file__, demo.__file__] == {[str(path) for path in expected]}"
    (checkout / "tests" / "python" / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    said = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert said.returncode == 0 and "1 passed" in said.stdout, said.stdout + said.stderr


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "not_installed"])
def test_the_folder_gives_way_to_the_package(installed, tmp_path):
    """As where another node pack puts custom_nodes on sys.path."""
    pack = tmp_path / "custom_nodes" / "jenga"
    expected = make_package(pack / "python", "jenga")
    shutil.copy(ROOT / "__init__.py", pack)
    path = [str(pack.parent)]
    if installed:
        expected = make_package(tmp_path / "installed", "jenga")
        path.append(str(tmp_path / "installed"))
    (expected.parent / "part.py").touch()
    program = f"import sys; sys.path[:0] = {path}; import jenga.part; print(jenga.part.__file__)"
    said = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert said.stdout.strip() == str(expected.parent / "part.py"), said.stderr
