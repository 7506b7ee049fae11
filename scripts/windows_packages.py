"""What the Windows build takes from packages: torch's import libraries, headers and DLLs, and Microsoft's C++ runtime.

They are downloaded once with pip, into .cache/windows, and nothing of them enters the wheel.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "windows"
# Package -> the files that are taken, by the beginning of their names. The runtime is torch's own dependency.
PACKAGES = {"torch==2.11.0": ("torch/lib/", "torch/include/"), "msvc-runtime==14.51.36231": ("msvc_runtime-",)}
PYTHON = "3.12"  # any that both have a wheel for; the libraries know no Python


def torch_folder() -> Path:
    return CACHE / "torch"


def dll_folders() -> list[Path]:
    """Where Windows programs find torch's DLLs and the C++ runtime."""
    runtime = next(CACHE.glob("msvc_runtime-*.data/data/Scripts"))
    return [torch_folder() / "lib", runtime]


def fetch() -> None:
    """Downloads and unpacks what is not there yet."""
    for package, beginnings in PACKAGES.items():
        stamp = CACHE / f".{package}"
        if stamp.exists():
            continue
        downloads = CACHE / "downloads"
        options = ["--no-deps", "--only-binary=:all:", "--platform=win_amd64", f"--python-version={PYTHON}"]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
        subprocess.run([*pip, *options, "-d", str(downloads), package], check=True)
        name = package.partition("==")[0].replace("-", "_")
        wheel = next(downloads.glob(f"{name}-*-win_amd64.whl"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(CACHE, [entry for entry in archive.namelist() if entry.startswith(beginnings)])
        wheel.unlink()
        stamp.touch()
