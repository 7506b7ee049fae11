"""Run the Windows tests of build/windows under wine: core, CPU kernels, and the operators under torch's own DLLs.

`python -m scripts.wine_tests`; without wine it says so and does nothing, with --required that is an error.
"""

import os
import shutil
import subprocess
import sys

from . import windows_packages
from .windows_wheel import BUILD


def environment() -> dict[str, str]:
    folders = [*windows_packages.dll_folders(), BUILD / "csrc" / "ops"]
    return {
        **os.environ,
        "WINEPREFIX": str(windows_packages.CACHE / "wine"),
        "WINEDEBUG": "-all",
        "WINEPATH": ";".join("Z:" + str(folder).replace("/", "\\") for folder in folders),
        "KMP_AFFINITY": "disabled",  # Intel's OpenMP asks for NUMA nodes, which wine has not
    }


def main() -> int:
    wine = shutil.which("wine")
    if wine is None:
        print("wine_tests: no wine here, the Windows tests are built but not run; `apt-get install wine` gets it")
        return int("--required" in sys.argv)
    programs = sorted(BUILD.glob("tests/cpp/**/*test*.exe"))
    if not programs:
        print(f"wine_tests: {BUILD} must hold the tests, got none; run `make wheel-windows`")
        return 1
    failed = [
        program.name
        for program in programs
        if subprocess.run([wine, program, "--gtest_brief=1"], env=environment(), timeout=600).returncode
    ]
    print(f"wine_tests: {len(programs) - len(failed)} of {len(programs)} programs pass", *failed)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
