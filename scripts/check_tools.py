"""Say in one line what system tool is missing and how to get it, before anything is downloaded or built."""

import importlib.util
import shutil
import sys
from pathlib import Path

DEBIAN = "apt-get install"


def missing_tools() -> list[str]:
    """Names of the Debian packages that hold what is missing."""
    packages = []
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        packages.append("g++")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        packages.append("python3-venv")
    if "--tests" in sys.argv and not any(
        Path(prefix, "gtest/gtest.h").exists() for prefix in ("/usr/include", "/usr/local/include")
    ):
        packages.append("libgtest-dev")
    return packages


def main() -> int:
    if sys.version_info < (3, 10):  # noqa: UP036  (this file runs before the right Python is known)
        print(f"jenga: Python must be 3.10 or newer, got {sys.version.split()[0]}; run `make PYTHON=python3.12 …`")
        return 1
    packages = missing_tools()
    if packages:
        print(f"jenga: missing system packages: {' '.join(packages)}; get them with `{DEBIAN} {' '.join(packages)}`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
