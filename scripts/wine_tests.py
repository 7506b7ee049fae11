"""Run the Windows tests of build/windows under wine: core, CPU kernels, the operators under torch's own DLLs, and the
launches of the CUDA kernels on a fake driver. What only a Windows machine with a GPU can show is named at the end.

`python -m scripts.wine_tests`; without wine it says so and does nothing, with --required that is an error.
"""

import os
import shutil
import subprocess
import sys

from . import windows_packages
from .windows_wheel import BUILD

NOT_RUN = """wine_tests: not run here, for want of a GPU under Windows: NVIDIA's nvcuda.dll taking the embedded code,
any CUDA kernel, the current stream of torch's own torch_cuda.dll. Linux runs the same code, host's and GPU's."""


def environment() -> dict[str, str]:
    folders = [*windows_packages.dll_folders(), BUILD / "csrc" / "ops", BUILD / "csrc" / "ops" / "cuda"]
    return {
        **os.environ,
        "WINEPREFIX": str(windows_packages.CACHE / "wine"),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "nvcuda=n",  # the fake driver of the tests, and none where there is none
        "WINEPATH": ";".join("Z:" + str(folder).replace("/", "\\") for folder in folders),
        "KMP_AFFINITY": "disabled",  # Intel's OpenMP asks for NUMA nodes, which wine has not
    }


def stop_server() -> None:
    """End wine's server, which outlives the programs for a while and writes its registry when it ends.

    Whoever removes the folder, a clean checkout's test among them, would find new files in it.
    """
    server = shutil.which("wineserver")
    for argument in ("--kill", "--wait") if server else ():  # without it the server ends by itself, seconds later
        subprocess.run([server, argument], env=environment(), timeout=60)


def main() -> int:
    wine = shutil.which("wine")
    if wine is None:
        print("wine_tests: no wine here, the Windows tests are built but not run; `apt-get install wine` gets it")
        return int("--required" in sys.argv)
    programs = sorted(BUILD.glob("tests/cpp/**/*test*.exe"))
    if not programs:
        print(f"wine_tests: {BUILD} must hold the tests, got none; run `make wheel-windows`")
        return 1
    try:
        failed = [
            program.name
            for program in programs
            if subprocess.run([wine, program, "--gtest_brief=1"], env=environment(), timeout=600).returncode
        ]
    finally:
        stop_server()
    print(f"wine_tests: {len(programs) - len(failed)} of {len(programs)} programs pass", *failed)
    if any("cuda" in program.name for program in programs):
        print(NOT_RUN)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
