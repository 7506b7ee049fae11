"""One wheel, unchanged, in two fresh environments: the oldest Python and torch that we support, and the newest.

`python scripts/check_wheel.py dist/comfyui_jenga-*.whl` makes each environment, installs torch and the wheel, and
runs the operator tests there. An interpreter that this machine does not have is named and skipped; with --all it is
an error.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = (("3.10", "torch==2.10.*"), ("3.13", "torch"))
TEST_TOOLS = ("numpy", "pytest", "hypothesis", "setuptools")
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


def check(python: str, torch: str, wheel: Path) -> None:
    """Raises CalledProcessError where an install or a test fails."""
    with tempfile.TemporaryDirectory(prefix="jenga-wheel-") as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        fresh = f"{folder}/bin/python"
        install = [fresh, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, torch, *TEST_TOOLS, str(wheel)], check=True)
        environment = {**os.environ, "JENGA_WHEEL": str(wheel)}
        environment.pop("PYTHONPATH", None)  # the wheel's package is the one under test
        who = "import sys, torch, jenga; print(sys.version.split()[0], 'torch', torch.__version__, jenga.__file__)"
        subprocess.run([fresh, "-c", who], check=True, cwd=folder, env=environment)
        tests = [fresh, "-m", "pytest", "-q", "-r", "fE", "-p", "no:cacheprovider", WHEEL_TESTS, *OPERATOR_TESTS]
        subprocess.run(tests, check=True, cwd=ROOT, env=environment)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--all", action="store_true", help="a missing interpreter is an error")
    arguments = parser.parse_args()
    missing = []
    for version, torch in ENVIRONMENTS:
        python = find_python(version)
        if python is None:
            missing.append(version)
            print(f"check_wheel: no Python {version} here; install it to check the wheel with {torch}", flush=True)
        else:
            check(python, torch, arguments.wheel.resolve())
    return int(arguments.all and bool(missing))


if __name__ == "__main__":
    sys.exit(main())
