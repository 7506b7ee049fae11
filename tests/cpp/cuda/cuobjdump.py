"""What cuobjdump says of the machine code in fatbins."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


def find_cuobjdump() -> str | None:
    """The CUDA toolkit's, else the one inside the Triton package."""
    found = shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    if found:
        return found
    triton = importlib.util.find_spec("triton")
    if triton is None or triton.origin is None:
        return None
    bundled = Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return str(bundled) if bundled.exists() else None


def dump(cuobjdump: str, option: str, *fatbins: str | Path) -> str:
    run = [subprocess.run([cuobjdump, option, path], check=True, capture_output=True, text=True) for path in fatbins]
    return "".join(done.stdout for done in run)


def resource_usage(listing: str) -> Iterator[tuple[str, str, str]]:
    """(architecture, kernel, what it takes) of every piece of machine code, out of `dump(..., "-res-usage", ...)`."""
    arch = name = ""
    for line in listing.splitlines():
        if match := re.search(r"^arch = (sm_\w+)", line):
            arch = match[1]
        elif match := re.search(r"Function (\S+):", line):
            name = match[1]
        elif "REG:" in line:
            yield arch, name, line.strip()
