"""Cross-build the Windows wheel on Linux: `python -m scripts.windows_wheel dist`.

zig compiles the libraries (cmake/windows-zig.cmake) against the import libraries of torch's Windows wheel. The Python
part is that of the Linux wheel in the given folder. What the libraries import and export is checked.
"""

import base64
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from . import windows_packages

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "windows"
TAG = "py3-none-win_amd64"
IMPORTS = re.compile(r"torch_cpu\.dll|KERNEL32\.dll|api-ms-win-crt-[a-z]+-l1-1-0\.dll")
# What zig's C runtime and unwinder export; nothing of ours is: operators register themselves.
EXPORTS = {"_CRT_INIT", "__mingw_module_is_dll", "__unw_getcontext", "unw_getcontext", "atexit"}


def build() -> list[Path]:
    """The DLLs; the tests are built beside them."""
    zig = Path(importlib.util.find_spec("ziglang").origin).parent / "zig"
    settings = {
        "CMAKE_TOOLCHAIN_FILE": ROOT / "cmake" / "windows-zig.cmake",
        "CMAKE_BUILD_TYPE": "Release",
        "JENGA_ZIG": zig,
        "JENGA_TORCH_DIR": windows_packages.torch_folder(),
        "JENGA_CUDA": "OFF",
        "JENGA_BUILD_TESTS": "ON",
    }
    # A compiler launcher knows compilers by their names, and zig is none to it.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_COMPILER_LAUNCHER")}
    environment["ZIG_GLOBAL_CACHE_DIR"] = str(ROOT / ".cache" / "zig")
    cmake = Path(sys.executable).with_name("cmake")
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    subprocess.run([cmake, "-G", "Ninja", "-S", ROOT, "-B", BUILD, *defines], check=True, env=environment)
    subprocess.run([cmake, "--build", BUILD], check=True, env=environment)
    return [BUILD / "csrc" / "ops" / "libjenga_cpu.dll"]


def check(library: Path) -> None:
    """Raises RuntimeError where a DLL needs or offers anything but what is meant."""
    listing = subprocess.run(["objdump", "-p", library], check=True, capture_output=True, text=True).stdout
    needed = re.findall(r"DLL Name: (\S+)", listing)
    foreign = [name for name in needed if not IMPORTS.fullmatch(name)]
    if foreign or "torch_cpu.dll" not in needed:
        raise RuntimeError(f"{library.name} must import torch_cpu.dll and Windows' own DLLs alone, got {needed}")
    exported = set(re.findall(r"^\t\[ *\d+\] (\S+)$", listing, re.MULTILINE))
    if exported - EXPORTS:
        raise RuntimeError(f"{library.name} must export nothing of ours, got {sorted(exported - EXPORTS)}")


def repack(linux: Path, libraries: list[Path]) -> Path:
    """The Linux wheel with these libraries in the place of its own."""
    name, version = linux.name.split("-")[:2]
    target = linux.with_name(f"{name}-{version}-{TAG}.whl")
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(linux) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist() if not entry.endswith("/")}
    files = {entry: data for entry, data in files.items() if not entry.startswith("jenga/lib/")}
    files |= {f"jenga/lib/{library.name}": library.read_bytes() for library in libraries}
    files[f"{info}/WHEEL"] = re.sub(rb"(?m)^Tag: .*$", f"Tag: {TAG}".encode(), files[f"{info}/WHEEL"])
    del files[f"{info}/RECORD"]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in files.items():
            archive.writestr(entry, data)
        archive.writestr(f"{info}/RECORD", record(files, info))
    return target


def record(files: dict[str, bytes], info: str) -> str:
    lines = []
    for entry, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{entry},sha256={digest},{len(data)}\n")
    return "".join([*lines, f"{info}/RECORD,,\n"])


def main() -> int:
    linux = list(Path(sys.argv[1]).glob("comfyui_jenga-*linux*.whl"))
    if len(linux) != 1:
        print(f"windows_wheel: {sys.argv[1]} must hold one Linux wheel, got {len(linux)}; run `make wheel`")
        return 1
    windows_packages.fetch()
    libraries = build()
    for library in libraries:
        check(library)
    print("windows_wheel:", repack(linux[0], libraries))
    return 0


if __name__ == "__main__":
    sys.exit(main())
