"""Whether the NVIDIA driver of this machine can run the CUDA library: asked before the library is loaded."""

import ctypes
import sys
from pathlib import Path

# Generation of CUDA -> the first driver for it. Source: CUDA release notes.
FIRST_DRIVER = {12: 525, 13: 580}


def refusal(toolkit: Path) -> str:
    """Why the library built by the CUDA of this file (its major version) cannot run here; empty where it can.

    Empty too where there is no such file or no driver: torch then sees no CUDA device, and that is the reason.
    """
    if not toolkit.is_file():
        return ""
    return compare(int(toolkit.read_text()), newest_cuda())


def compare(built: int, newest: tuple[int, int] | None) -> str:
    """built: CUDA that the library is made with; newest: (major, minor) that the driver knows, None without one."""
    if newest is None or newest[0] >= built:
        return ""
    number = FIRST_DRIVER.get(built)
    driver = f"{number} or newer (CUDA {built})" if number else f"for CUDA {built} or newer"
    return f"the NVIDIA driver must be {driver}, got one for CUDA {newest[0]}.{newest[1]}; update the driver"


def newest_cuda() -> tuple[int, int] | None:
    """(major, minor) of the newest CUDA that the installed driver knows; None where there is no driver."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        version = ctypes.c_int()
        failed = library.cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed else (version.value // 1000, version.value % 1000 // 10)
