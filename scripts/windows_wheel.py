"""Cross-build the Windows wheel on Linux: `python -m scripts.windows_wheel dist`.

zig compiles the libraries (cmake/windows-zig.cmake) against the import libraries of torch's Windows wheel. The Python
part is that of the Linux wheel in the given folder, and so is the machine code of the CUDA kernels, which knows no
system; where that wheel has none, neither has this one. What the libraries import and export is checked.
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
CUDA_CODE = ROOT / "build" / "dev" / "cuda_code"  # of the build behind the Linux wheel (Makefile)
TAG = "py3-none-win_amd64"
MOST_MEGABYTES = 30
WINDOWS = re.compile(r"KERNEL32\.dll|api-ms-win-crt-[a-z]+-l1-1-0\.dll")
# What each library must import beside Windows' own DLLs: no CUDA runtime, no driver.
IMPORTS = {"libjenga_cpu.dll": {"torch_cpu.dll"}, "libjenga_cuda.dll": {"torch_cpu.dll", "torch_cuda.dll"}}
# What zig's C runtime and unwinder export; nothing of ours is: operators register themselves.
EXPORTS = {"_CRT_INIT", "__mingw_module_is_dll", "__unw_getcontext", "unw_getcontext", "atexit"}


def cuda_settings(cuda: bool) -> dict[str, object]:
    if not cuda:
        return {"JENGA_CUDA": "OFF"}
    if not (CUDA_CODE / "include").is_file():
        raise RuntimeError(
            f"windows_wheel: {CUDA_CODE} must hold the kernels' machine code, got none; run `make wheel`"
        )
    include = (CUDA_CODE / "include").read_text().strip()
    return {"JENGA_CUDA": "ON", "JENGA_CUDA_CODE": CUDA_CODE, "JENGA_CUDA_INCLUDE": include}


def build(cuda: bool) -> list[Path]:
    """What goes into the wheel's folder of libraries; the tests are built beside it."""
    zig = Path(importlib.util.find_spec("ziglang").origin).parent / "zig"
    settings = {
        "CMAKE_TOOLCHAIN_FILE": ROOT / "cmake" / "windows-zig.cmake",
        "CMAKE_BUILD_TYPE": "Release",
        "JENGA_ZIG": zig,
        "JENGA_TORCH_DIR": windows_packages.torch_folder(),
        "JENGA_BUILD_TESTS": "ON",
        **cuda_settings(cuda),
    }
    # A compiler launcher knows compilers by their names, and zig is none to it.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_COMPILER_LAUNCHER")}
    environment["ZIG_GLOBAL_CACHE_DIR"] = str(ROOT / ".cache" / "zig")
    cmake = Path(sys.executable).with_name("cmake")
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    subprocess.run([cmake, "-G", "Ninja", "-S", ROOT, "-B", BUILD, *defines], check=True, env=environment)
    subprocess.run([cmake, "--build", BUILD], check=True, env=environment)
    ops = BUILD / "csrc" / "ops"
    files = [ops / "libjenga_cpu.dll"]
    return files + [ops / "cuda" / "libjenga_cuda.dll", ops / "cuda" / "libjenga_cuda.toolkit"] if cuda else files


def check(library: Path) -> None:
    """Raises RuntimeError where a DLL needs or offers anything but what is meant."""
    listing = subprocess.run(["objdump", "-p", library], check=True, capture_output=True, text=True).stdout
    needed = {name for name in re.findall(r"DLL Name: (\S+)", listing) if not WINDOWS.fullmatch(name)}
    if needed != IMPORTS[library.name]:
        meant = " and ".join(sorted(IMPORTS[library.name]))
        raise RuntimeError(f"{library.name} must import {meant} and Windows' own DLLs alone, got {sorted(needed)}")
    exported = set(re.findall(r"^\t\[ *\d+\] (\S+)$", listing, re.MULTILINE))
    if exported - EXPORTS:
        raise RuntimeError(f"{library.name} must export nothing of ours, got {sorted(exported - EXPORTS)}")


def repack(linux: Path, libraries: list[Path]) -> Path:
    """The Linux wheel with these files in the place of its libraries. Raises RuntimeError where it gets too large."""
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
    megabytes = target.stat().st_size / 1e6
    if megabytes > MOST_MEGABYTES:
        raise RuntimeError(f"{target.name} must have at most {MOST_MEGABYTES} MB, got {megabytes:.1f}")
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
    with zipfile.ZipFile(linux[0]) as archive:
        cuda = "jenga/lib/libjenga_cuda.so" in archive.namelist()
    files = build(cuda)
    for file in files:
        if file.suffix == ".dll":
            check(file)
    wheel = repack(linux[0], files)
    print(f"windows_wheel: {wheel}, {wheel.stat().st_size / 1e6:.1f} MB, {'with' if cuda else 'without'} CUDA")
    return 0


if __name__ == "__main__":
    sys.exit(main())
