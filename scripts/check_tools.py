"""Say in one line what this machine lacks and how to get it, before anything is downloaded or built."""

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

DEBIAN = "apt-get install"
ROOT = Path(__file__).resolve().parent.parent
# Gigabytes at the peak, with some to spare: torch with its CUDA libraries and pip's copies of them (9 measured); what
# tests add beside it, most of it one fresh environment with a torch of its own (7).
SETUP_GB, TESTS_GB = 12, 14


def missing_space(tests: bool) -> str:
    """Which folder has too little room for what will be installed and made; an empty string where there is enough."""
    setup = 0 if Path(ROOT, ".venv", ".dependencies").exists() else SETUP_GB
    scratch = tempfile.gettempdir()
    for folder, needed in ((ROOT, setup + TESTS_GB * tests), (scratch, TESTS_GB * tests)):
        free = shutil.disk_usage(folder).free / 1e9
        if free < needed:
            remedy = "; set TMPDIR to a folder that has it" if folder == scratch else ""
            return f"{folder} must have {needed} GB free, got {free:.0f}{remedy}"
    return ""


def missing_tools(tests: bool) -> list[str]:
    """Names of the Debian packages that hold what is missing."""
    packages = []
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        packages.append("g++")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        packages.append("python3-venv")
    if tests and not any(Path(prefix, "gtest/gtest.h").exists() for prefix in ("/usr/include", "/usr/local/include")):
        packages.append("libgtest-dev")
    return packages


def main() -> int:
    if sys.version_info < (3, 10):  # noqa: UP036  (this file runs before the right Python is known)
        print(f"jenga: Python must be 3.10 or newer, got {sys.version.split()[0]}; run `make PYTHON=python3.12 …`")
        return 1
    tests = "--tests" in sys.argv
    packages, space = missing_tools(tests), missing_space(tests)
    if packages:
        print(f"jenga: missing system packages: {' '.join(packages)}; get them with `{DEBIAN} {' '.join(packages)}`")
        return 1
    if space:
        print(f"jenga: {space}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
