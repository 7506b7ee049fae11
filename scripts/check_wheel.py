"""One wheel, unchanged, in fresh environments: the oldest Python and torch that we support, and the newest.

`python scripts/check_wheel.py dist/comfyui_jenga-*.whl` first asks pip what it would install beside an older torch: our
wheel, and no other torch. Then it makes each environment, installs torch and the wheel, and runs the operator tests
there; --matrix takes every Python and torch that we support. An interpreter that this machine does not have is named
and skipped; with --all it is an error.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = (("3.10", "torch==2.10.*"), ("3.13", "torch"))
MATRIX = (
    ("3.10", "torch==2.10.*"),
    ("3.11", "torch==2.11.*"),
    ("3.12", "torch==2.10.*"),
    ("3.12", "torch"),
    ("3.13", "torch==2.11.*"),
    ("3.14", "torch"),
)
OLD_TORCH = "Metadata-Version: 2.1\nName: torch\nVersion: 2.8.0\n"  # all that pip looks at
TEST_TOOLS = ("numpy", "pytest", "pytest-xdist", "hypothesis", "setuptools")
OPERATOR_TESTS = sorted(str(path) for path in (ROOT / "tests" / "python").glob("test_ops_*.py"))
WHEEL_TESTS = str(ROOT / "tests" / "python" / "test_wheel.py")


def find_python(version: str) -> str | None:
    """An interpreter of this version: on PATH, or one of pyenv's."""
    on_path = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [on_path, *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))]
    probe = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):  # a shim on PATH may lead nowhere
        said = subprocess.run([candidate, "-c", probe], capture_output=True, text=True)
        if said.returncode == 0 and said.stdout.strip() == version:
            return candidate
    return None


def check_beside_old_torch(wheel: Path) -> None:
    """Raises RuntimeError where pip would touch an installed torch that is older than ours."""
    with tempfile.TemporaryDirectory(prefix="jenga-wheel-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        packages = next(Path(folder).glob("lib/python*/site-packages"))
        (packages / "torch-2.8.0.dist-info").mkdir()
        (packages / "torch-2.8.0.dist-info" / "METADATA").write_text(OLD_TORCH)
        report = Path(folder, "report.json")
        pip = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--dry-run", "--report", str(report), str(wheel)], check=True)
        planned = {entry["metadata"]["name"] for entry in json.loads(report.read_text())["install"]}
    if planned != {"comfyui-jenga", "psutil"}:
        raise RuntimeError(f"check_wheel: pip must install our wheel and psutil alone, got {sorted(planned)}")
    print("check_wheel: beside torch 2.8.0 pip would install", *sorted(planned), flush=True)


def check(python: str, torch: str, wheel: Path) -> None:
    """Raises CalledProcessError where an install or a test fails."""
    with tempfile.TemporaryDirectory(prefix="jenga-wheel-") as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        fresh = f"{folder}/bin/python"
        install = [fresh, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, torch, *TEST_TOOLS, str(wheel)], check=True)
        # Two processes; threads of one that wait do not take the other's time.
        environment = {**os.environ, "JENGA_WHEEL": str(wheel), "OMP_WAIT_POLICY": "passive"}
        environment.pop("PYTHONPATH", None)  # the wheel's package is the one under test
        who = "import sys, torch, jenga; print(sys.version.split()[0], 'torch', torch.__version__, jenga.__file__)"
        subprocess.run([fresh, "-c", who], check=True, cwd=folder, env=environment)
        pytest = [fresh, "-m", "pytest", "-q", "-r", "fE", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
        subprocess.run([*pytest, WHEEL_TESTS, *OPERATOR_TESTS], check=True, cwd=ROOT, env=environment)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--all", action="store_true", help="a missing interpreter is an error")
    parser.add_argument("--matrix", action="store_true", help="every Python and torch that we support")
    arguments = parser.parse_args()
    check_beside_old_torch(arguments.wheel.resolve())
    missing = []
    for version, torch in MATRIX if arguments.matrix else ENVIRONMENTS:
        python = find_python(version)
        if python is None:
            missing.append(version)
            print(f"check_wheel: no Python {version} here; install it to check the wheel with {torch}", flush=True)
        else:
            check(python, torch, arguments.wheel.resolve())
    return int(arguments.all and bool(missing))


if __name__ == "__main__":
    sys.exit(main())
